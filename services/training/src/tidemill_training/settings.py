"""Settings of the trainer."""

from pydantic import Field

from tidemill_shared.settings import Group, Settings


class TrainingGroup(Group):
    """How trainings are run. What they may spend stands in each pipeline's specification."""

    concurrency: int = Field(default=1, ge=1, le=16)
    """Trainings this replica runs at a time, each of another pipeline."""
    jobs: int = Field(default=2, ge=1, le=256)
    """Threads a single fit may use."""
    tune_threshold: bool = True
    """Choose a binary model's decision threshold on the validation rows where F1 is the primary metric; otherwise the
    most probable class is answered."""
    importance_rows: int = Field(default=1_000, ge=50, le=1_000_000)
    """Rows that permutation importance is computed on, at most."""
    importance_seconds: float = Field(default=10.0, gt=0, le=3600)
    """Time it may take; columns not reached are left out."""
    limit_seconds: float = Field(default=4 * 3600.0, gt=0)
    """A training that has not ended after this long is killed and reported as failed."""
    max_attempts: int = Field(default=4, ge=1, le=100)
    """A training whose process or service was killed this often is reported as failed; keep it below
    TIDEMILL_DELIVERY__MAX_DELIVERIES, or the granted event goes to the dead letters first."""
    progress_seconds: float = Field(default=0.5, ge=0, le=60)
    """Least time between two progress events of a training."""
    tick_seconds: float = Field(default=0.5, gt=0, le=60)
    """How often waiting triggers are looked at."""


class TrainingSettings(Settings):
    """What the trainer is told."""

    training: TrainingGroup = TrainingGroup()
    """Group ``TIDEMILL_TRAINING__``."""
