"""What the monitor has found, before it becomes an event."""

from dataclasses import dataclass
from typing import Literal

from tidemill_monitoring.domain.measuring import Test, Verdict

Kind = Literal["data", "prediction", "concept"]


@dataclass(frozen=True, slots=True)
class Span:
    """A run of rows: number of rows, first and last number, event times in seconds."""

    rows: int
    first: int
    last: int
    start: float
    end: float


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


Finding = Evaluated | Detected | Resolved | Degraded | Recovered
