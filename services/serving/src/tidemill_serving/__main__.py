"""Run the server: ``python -m tidemill_serving``."""

from tidemill_serving.app import build
from tidemill_serving.settings import ServingSettings
from tidemill_shared.service import run


def main() -> None:
    """Entry point."""
    run(build, ServingSettings)


if __name__ == "__main__":
    main()
