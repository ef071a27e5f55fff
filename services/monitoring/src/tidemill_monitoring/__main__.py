"""``python -m tidemill_monitoring``."""

from typing import NoReturn

from tidemill_monitoring.app import build
from tidemill_monitoring.settings import MonitoringSettings
from tidemill_shared.service import run


def main() -> NoReturn:
    """Run the service until it is asked to stop."""
    run(build, MonitoringSettings)


if __name__ == "__main__":
    main()
