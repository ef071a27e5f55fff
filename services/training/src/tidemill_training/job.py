"""What the child process is given and what it gives back; light, because the parent imports it too."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

SEVERAL = 2
"""With more classes than these a rare one may lack rows since a change: earlier rows of it stand in for them."""


@dataclass(frozen=True)
class Job:
    """A training, as plain values."""

    folder: Path
    """Where ``model.skops`` is written."""
    task: str
    metric: str
    target: str
    classes: tuple[Any, ...]
    positive: Any
    """One of ``classes``; None for regression and for more than two classes."""
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    train: tuple[Path, ...]
    validation: tuple[Path, ...]
    older: tuple[Path, ...]
    """Training rows from before ``since``: for classes that have not come since, where there are several, and for
    ``evidence``."""
    from_ordinal: int
    since: datetime | None
    newest: int | None
    evidence: bool
    """Learn from older rows too where they prove to help."""
    families: tuple[str, ...]
    trials: int
    seconds: float
    seed: int
    jobs: int
    importance_rows: int
    importance_seconds: float
    tune_threshold: bool


@dataclass(frozen=True)
class Trained:
    """A fitted model in ``folder``/model.skops, and all that is known of it."""

    family: str
    parameters: dict[str, Any]
    threshold: float | None
    judged_rows: int
    """Rows behind the metrics: the validation rows, or where those are too few all rows, by folds."""
    metrics: dict[str, float]
    baseline: dict[str, float]
    calibration: tuple[tuple[float, float, int], ...]
    confusion: tuple[tuple[int, ...], ...]
    trials: tuple[dict[str, Any], ...]
    importances: tuple[tuple[str, float, float, float], ...]
    """Of each column: mean, deviation over shuffles, and standard error."""
    categories: dict[str, tuple[str, ...]]
    choice: dict[str, Any] | None
    """Fields of ``RowChoice``; None: nothing was compared."""
    rows: dict[str, int]
    environment: dict[str, str]
    cpu_seconds: float
    """Processor time of the process that made it."""


@dataclass(frozen=True)
class Unfit:
    """Why these rows cannot train a model."""

    code: str
    message: str
    count: int | None = None
