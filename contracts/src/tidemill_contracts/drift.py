"""Verdicts of the monitor."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tidemill_contracts.document import Document
from tidemill_contracts.names import Version

Verdict = Literal["insufficient_data", "stable", "warning", "drift"]
DriftKind = Literal["data", "prediction", "concept"]
ReferenceName = Literal["training", "validation", "previous", "season"]
BreakKind = Literal[
    "missing_values",
    "unit_changed",
    "stuck_sensor",
    "unknown_values",
    "missing_column",
    "renamed_column",
    "wrong_type",
    "wrong_labels",
]


class Window(Document):
    """A run of consecutive rows."""

    rows: int = Field(ge=0)
    start: datetime | None = None
    end: datetime | None = None
    """Event times."""
    first: int | None = None
    last: int | None = None
    """Numbers of the rows since the pipeline was first monitored."""
    late: int = 0
    """Rows older than the watermark that came since the window before. A window by count holds them; one by time is
    closed by then, and they are counted here alone."""


class Statistic(Document):
    """One test of one column (or of the errors), with what it was compared with."""

    name: str
    """The column, ``prediction`` or ``error``; of a joint test the two columns it shows in most, joined by `` & ``."""
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


class EstimatedPerformance(Document):
    """What the primary metric probably is, before any label of the window is in."""

    metric: str
    value: float
    rows: int
    method: Literal["confidence", "loss"]
    """``confidence``: from the model's probabilities, calibrated on ``calibration_rows`` labelled rows. ``loss``: from
    a model of the absolute error fitted to them. Both assume that P(y|x) has not changed."""
    calibration_rows: int


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
    reference: ReferenceName = "training"
    """What the window was compared with."""
    estimated: EstimatedPerformance | None = None


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
    course: Literal["abrupt", "gradual"] | None = None
    """How the error grew, as far as it can be told: at once, or still growing."""


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


class BrokenData(Document):
    """Payload of ``data.broken``: the data are wrong, which is not drift. Rows from ``first`` on are not sent back as
    new data until ``data.mended``."""

    kind: BreakKind
    column: str
    """The column, or ``label``."""
    model_version: Version | None = None
    first: int
    """Number of the first row in doubt: answered rows, for ``wrong_labels`` labelled ones, for columns and types
    refused requests."""
    noticed_row: int
    noticed_at: datetime
    share: float
    """Of the rows looked at."""
    rows: int
    """Rows looked at."""
    factor: float | None = None
    """``unit_changed``: times the values of the reference."""
    instead: str | None = None
    """``renamed_column``: the unknown column that comes in its place."""
    message: str = Field(max_length=1000)


class MendedData(Document):
    """Payload of ``data.mended``: the break is over."""

    kind: BreakKind
    column: str
    first: int
    last: int
    """The rows in doubt."""
    reason: Literal["healthy", "new_model", "lasting"]
    """``lasting``: wrong labels that did not stop are taken for a change after all."""


class MeasuredPerformance(Document):
    """Payload of ``performance.measured``: the score of one window, once its labels are in or no longer waited for."""

    model_version: Version
    metric: str
    score: float | None = None
    """None: the metric is undefined on these rows."""
    standard_error: float | None = None
    window: Window
    """By answered rows."""
    labelled: int
    """Rows of the window with a label."""
    coverage: float
    """Their share."""
    corrected: int = 0
    """Labels that replaced an earlier one."""
    complete: bool
    """Every row has its label; else the time for them was up."""
    estimated: EstimatedPerformance | None = None
    """What had been estimated when the window closed."""
