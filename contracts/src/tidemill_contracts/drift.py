"""Verdicts of the monitor."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tidemill_contracts.document import Document
from tidemill_contracts.names import Version

Verdict = Literal["insufficient_data", "stable", "warning", "drift"]
DriftKind = Literal["data", "prediction", "concept"]


class Window(Document):
    """A run of consecutive rows."""

    rows: int = Field(ge=0)
    start: datetime | None = None
    end: datetime | None = None
    """Event times."""
    first: int | None = None
    last: int | None = None
    """Numbers of the rows since the pipeline was first monitored."""


class Statistic(Document):
    """One test of one column (or of the errors), with what it was compared with."""

    name: str
    """The column, ``prediction`` or ``error``."""
    test: str
    statistic: float
    threshold: float
    p_value: float | None = None
    effect: float | None = None
    reference_rows: int
    current_rows: int
    verdict: Verdict
    severity: float | None = None
    """Effect over the smallest that counts, times the column's share of the model's importance, where that is known."""


class EvaluatedDrift(Document):
    """Payload of ``drift.evaluated``: the verdict on a window that has just closed."""

    kind: DriftKind
    model_version: Version
    verdict: Verdict
    window: Window
    statistics: tuple[Statistic, ...]
    correction: str
    score: float | None = None
    """Realized primary metric in the window, where labels are in."""


class DetectedDrift(Document):
    """Payload of ``drift.detected``: the state changed to ``drift``."""

    kind: DriftKind
    model_version: Version
    noticed_at: datetime
    """Event time of the row at which the alarm was raised."""
    noticed_row: int
    began_at: datetime | None = None
    """Estimated event time of the change."""
    began_row: int | None = None
    window: Window
    evidence: tuple[Statistic, ...] = Field(min_length=1)
    features: tuple[str, ...] = ()


class ResolvedDrift(Document):
    """Payload of ``drift.resolved``: the state left ``drift``."""

    kind: DriftKind
    model_version: Version
    window: Window
    reason: Literal["stable", "new_model"]


class DegradedPerformance(Document):
    """Payload of ``performance.degraded``: realized performance fell below the baseline."""

    model_version: Version
    metric: str
    score: float
    baseline: float
    window: Window
    noticed_at: datetime
    noticed_row: int


class RecoveredPerformance(Document):
    """Payload of ``performance.recovered``: how long the whole loop took, in events and in seconds."""

    model_version: Version
    metric: str
    score: float
    baseline: float
    rows_to_detect: int | None = None
    """Labelled rows from the estimated beginning of the change to the alarm."""
    rows_to_retrain: int | None = None
    """From the alarm to the first label of a prediction by the new model."""
    rows_to_recover: int | None = None
    """From there to the recovered score."""
    seconds: float | None = None
    """Wall time from the alarm to recovery."""
