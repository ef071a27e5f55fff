"""Run the judge: ``python -m tidemill_validation``."""

from tidemill_shared.service import run
from tidemill_validation.app import build
from tidemill_validation.settings import ValidationSettings


def main() -> None:
    """Entry point."""
    run(build, ValidationSettings)


if __name__ == "__main__":
    main()
