"""What the child process is given and what it gives back; light, because the parent imports it too."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """A package: verified bytes and the signature's facts."""

    onnx: bytes
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    positive: Any
    threshold: float | None


@dataclass(frozen=True)
class Job:
    """A judgement, as plain values."""

    challenger: Candidate
    champion: Candidate | None
    task: str
    target: str
    classes: tuple[Any, ...]
    metric: str
    test: tuple[Path, ...]
    from_ordinal: int
    since: datetime | None
    goals: dict[str, float]
    confidence: float
    margin: float
    newest_rows: int
    max_rows: int
    min_rows: int
    max_latency_ms: float
    max_batch_latency_ms: float
    resamples: int
    seed: int


@dataclass(frozen=True)
class Checked:
    """One check, in plain values."""

    name: str
    passed: bool
    message: str
    value: float | None
    bound: float | None


@dataclass(frozen=True)
class Judged:
    """The judgement."""

    rows: int
    metrics: dict[str, float]
    checks: tuple[Checked, ...]
    compared: dict[str, Any] | None
    passed: bool
    promote: bool
