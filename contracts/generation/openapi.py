"""What the services answer over HTTP."""

import json
import tomllib
from pathlib import Path, PurePosixPath

from tidemill_serving.openapi import document

_SERVING = PurePosixPath("services/serving")


def files(root: Path) -> dict[PurePosixPath, str]:
    """Path in the repository to text."""
    version = tomllib.loads((root / _SERVING / "pyproject.toml").read_text())["project"]["version"]
    return {_SERVING / "openapi.json": json.dumps(document(version), indent=2) + "\n"}
