"""What the monitor has found, before it becomes an event."""

from dataclasses import dataclass
from typing import Literal

from tidemill_monitoring.domain.measuring import Test, Verdict
from tidemill_monitoring.domain.symptoms import Symptom

Kind = Literal["data", "prediction", "concept"]
Course = Literal["abrupt", "gradual"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the primary metric probably is without labels, and how many labelled rows the estimate learned from."""

    value: float
    rows: int
    method: Literal["confidence", "loss"]
    calibration_rows: int


@dataclass(frozen=True, slots=True)
class Span:
    """A run of rows: number of rows, first and last number, event times in seconds."""

    rows: int
    first: int
    last: int
    start: float
    end: float
    late: int = 0
    """Rows behind the watermark since the span before."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A window closed."""

    kind: Kind
    version: str
    verdict: Verdict
    span: Span
    tests: tuple[Test, ...]
    correction: str
    score: float | None = None
    reference: str = "training"
    estimated: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Detected:
    """The state changed to drift (or, for errors, got worse again)."""

    kind: Kind
    version: str
    noticed_row: int
    noticed_at: float
    span: Span
    evidence: tuple[Test, ...]
    features: tuple[str, ...] = ()
    began_row: int | None = None
    began_at: float | None = None
    course: Course | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """The state left drift."""

    kind: Kind
    version: str
    span: Span
    reason: Literal["stable", "new_model"]


@dataclass(frozen=True, slots=True)
class Degraded:
    """Realized performance fell provably below the baseline."""

    version: str
    score: float
    baseline: float
    span: Span
    noticed_row: int
    noticed_at: float


@dataclass(frozen=True, slots=True)
class Recovered:
    """Realized performance is back; how long it took in labelled rows, and in seconds of wall time."""

    version: str
    score: float
    baseline: float
    rows_to_detect: int | None
    rows_to_retrain: int | None
    rows_to_recover: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Broken:
    """The data are wrong from row ``first`` on."""

    symptom: Symptom
    version: str | None
    first: int
    noticed_row: int
    noticed_at: float


@dataclass(frozen=True, slots=True)
class Mended:
    """A break is over; its rows."""

    kind: str
    column: str
    first: int
    last: int
    reason: Literal["healthy", "new_model", "lasting"]


@dataclass(frozen=True, slots=True)
class Measured:
    """The score of a window whose labels are in, or are no longer waited for."""

    version: str
    place: str
    """Of the window in the ledger."""
    score: float | None
    error: float | None
    span: Span
    labelled: int
    corrected: int
    complete: bool
    estimated: Estimate | None


Finding = Evaluated | Detected | Resolved | Degraded | Recovered | Broken | Mended | Measured
