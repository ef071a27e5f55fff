"""Run the trainer: ``python -m tidemill_training``."""

from tidemill_shared.service import run
from tidemill_training.app import build
from tidemill_training.settings import TrainingSettings


def main() -> None:
    """Entry point."""
    run(build, TrainingSettings)


if __name__ == "__main__":
    main()
