"""Run the packager: ``python -m tidemill_packaging``."""

from tidemill_packaging.app import build
from tidemill_packaging.settings import PackagingSettings
from tidemill_shared.service import run


def main() -> None:
    """Entry point."""
    run(build, PackagingSettings)


if __name__ == "__main__":
    main()
