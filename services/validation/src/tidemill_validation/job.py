"""What the child process is given and what it gives back; light, because the parent imports it too."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

UNBOUND = "golden_set_unanswered"
"""Code of the finding that the golden set does not bind, because it or the anchor is damaged."""


@dataclass(frozen=True)
class Candidate:
    """A package: verified bytes and the signature's facts."""

    onnx: bytes
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    classes: tuple[Any, ...]
    positive: Any
    threshold: float | None
    target: str


@dataclass(frozen=True)
class Guard:
    """What a challenger may not be clearly worse than, and on which frozen rows."""

    anchor: Candidate
    golden: Path
    since: datetime | None
    """Of the challenger: the alarm that it answers."""
    recent: tuple[Path, ...]
    """Parts of all splits since then, oldest first: unseen by the champion."""
    share: float = 0.95
    """Of its score on the set: what the champion must surely reach on recent rows to be called as good as before."""


@dataclass(frozen=True)
class Job:
    """A judgement, as plain values. Parts are verified local files, oldest first."""

    challenger: Candidate
    champion: Candidate | None
    task: str
    target: str
    classes: tuple[Any, ...]
    """Of the rows."""
    metric: str
    test: tuple[Path, ...]
    from_ordinal: int
    since: datetime | None
    newest_rows: int
    min_rows: int
    goals: dict[str, float]
    confidence: float
    margin: float
    max_latency_ms: float
    max_batch_latency_ms: float
    resamples: int
    seed: int
    costs: tuple[tuple[float, ...], ...] | None = None
    """Of truth and answer, by ``classes``; None compares by the metric."""
    slices: tuple[str, ...] = ()
    slice_rows: int = 50
    slice_margin: float = 0.1
    guard: Guard | None = None
    pipeline: str = ""
    version: str = ""
    """The challenger's, for the log."""


@dataclass(frozen=True)
class Checked:
    """One check; ``code`` names its failure for programs."""

    name: str
    passed: bool
    message: str
    value: float | None = None
    bound: float | None = None
    code: str = ""


@dataclass(frozen=True)
class Compared:
    """Challenger against champion, positive is better; infinite bounds mean that nothing could be shown."""

    rows: int
    champion: float
    challenger: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Judged:
    """The judgement. ``passed``: sound by itself; ``promote``: and to take the champion's place."""

    rows: int
    metrics: dict[str, float]
    checks: tuple[Checked, ...]
    compared: Compared | None
    passed: bool
    promote: bool

    def with_check(self, check: Checked) -> "Judged":
        """The same judgement with one more finding, which changes nothing."""
        return replace(self, checks=(*self.checks, check))

    def refused(self, check: Checked) -> "Judged":
        """The same judgement with a finding for which the model is not promoted."""
        return replace(self, checks=(*self.checks, check), promote=False)


def unanswered(code: str, message: str) -> Judged:
    """The judgement on a package that could not be judged."""
    check = Checked("answers", passed=False, message=message, code=code)
    return Judged(0, {}, (check,), None, passed=False, promote=False)
