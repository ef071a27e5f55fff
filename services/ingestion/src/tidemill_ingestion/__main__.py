"""Run ingestion: ``python -m tidemill_ingestion``."""

from tidemill_ingestion.app import build
from tidemill_ingestion.settings import IngestionSettings
from tidemill_shared.service import run


def main() -> None:
    """Entry point."""
    run(build, IngestionSettings)


if __name__ == "__main__":
    main()
