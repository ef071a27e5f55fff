"""What is generated from the contracts and the settings classes. A development tool; not part of the wheel."""

import os

os.environ["CONTRACTS_DESCRIBED"] = "1"  # before the contracts are imported: schemas carry the docstrings of fields
