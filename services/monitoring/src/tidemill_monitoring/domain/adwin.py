"""ADWIN: an adaptive window over a stream of errors (Bifet & Gavaldà, SDM 2007).

The window is kept as an exponential histogram, so that n values cost O(log n) memory. It shrinks whenever two parts
of it have means that differ by more than chance allows; what is left starts where the change began.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tidemill_monitoring.domain.course import course

MAX_BUCKETS = 5
"""Buckets of one size before the two oldest are merged (M of the paper)."""
MIN_PART = 5
"""Least number of values on either side of a cut."""
GRACE_ROWS = 10
"""No cut is looked for in a window of at most this many values."""


@dataclass(slots=True)
class Bucket:
    """A run of values: their number, sum and centred sum of squares, and where the run starts."""

    size: int
    total: float
    variance: float
    row: int
    time: float


@dataclass(frozen=True, slots=True)
class Cut:
    """A change: mean and number of values before and after it, the bound they broke, and the first value after it."""

    before: float
    after: float
    epsilon: float
    rows_before: int
    rows_after: int
    began_row: int
    began_time: float
    course: Literal["abrupt", "gradual"] | None = None

    @property
    def worse(self) -> bool:
        """Whether the newer part has the larger mean error."""
        return self.after > self.before


@dataclass(slots=True)
class Adwin:
    """The window. ``delta`` bounds the probability of a false cut at a check; a check comes every ``clock`` values."""

    delta: float
    clock: int = 32
    ticks: int = 0
    # One list per bucket size 2**i, each oldest first.
    levels: list[list[Bucket]] = field(default_factory=lambda: [[]])
    width: int = 0
    total: float = 0.0
    variance: float = 0.0
    """Centred sum of squares over the window."""

    @property
    def mean(self) -> float:
        """Mean of the window, 0 when it is empty."""
        return self.total / self.width if self.width else 0.0

    def update(self, value: float, *, row: int, time: float) -> Cut | None:
        """Take the next value (in [0, 1]) of row number ``row`` at event time ``time`` (seconds).

        Returns the change, if one was found at this value; the window has then lost its oldest part.
        """
        if self.width:
            self.variance += self.width * (value - self.mean) ** 2 / (self.width + 1)
        self.width += 1
        self.total += value
        self.levels[0].append(Bucket(1, value, 0.0, row, time))
        self._compress()
        self.ticks += 1
        if self.ticks % self.clock or self.width <= GRACE_ROWS:
            return None
        return self._shrink()

    def _compress(self) -> None:
        level = 0
        while len(self.levels[level]) > MAX_BUCKETS:
            older, newer = self.levels[level][:2]
            del self.levels[level][:2]
            if level + 1 == len(self.levels):
                self.levels.append([])
            self.levels[level + 1].append(
                Bucket(
                    older.size + newer.size,
                    older.total + newer.total,
                    older.variance + newer.variance + _between(older.size, older.total, newer.size, newer.total),
                    older.row,
                    older.time,
                )
            )
            level += 1

    def _shrink(self) -> Cut | None:
        cut: Cut | None = None
        while (epsilon := self._find()) is not None:
            # The window as it was before anything was dropped says best where the change lies.
            cut = cut or self._change_point(epsilon)
            self._drop_oldest()
        return cut

    def _change_point(self, epsilon: float) -> Cut:
        """The boundary that explains most of the window's variance (least squares; Bai 1994), as the change's place."""
        best, cut = -1.0, None
        n0, total0 = 0, 0.0
        for level in reversed(self.levels):
            for bucket in level:
                if n0:
                    explained = _between(n0, total0, self.width - n0, self.total - total0)
                    if explained > best:
                        before, after = total0 / n0, (self.total - total0) / (self.width - n0)
                        best = explained
                        cut = Cut(before, after, epsilon, n0, self.width - n0, bucket.row, bucket.time)
                n0 += bucket.size
                total0 += bucket.total
        assert cut is not None  # noqa: S101 - a cut was found, so there is more than one bucket
        buckets = [bucket for level in reversed(self.levels) for bucket in level]
        spread = max(self.variance - best, 0.0) / self.width
        shape = course([b.size for b in buckets], [b.total / b.size for b in buckets], spread)
        return replace(cut, course=shape)

    def _find(self) -> float | None:
        """The bound at the first boundary, from the oldest, whose two sides differ by more than it; None if none do."""
        if self.width <= GRACE_ROWS:
            return None
        # Theorem 3.1 with the variance of the whole window, and ln(width) for the number of cuts tried.
        confidence = math.log(2.0 * math.log(self.width) / self.delta)
        spread = 2.0 * self.variance / self.width * confidence
        n0, total0 = 0, 0.0
        for level in reversed(self.levels):
            for bucket in level:
                n0 += bucket.size
                total0 += bucket.total
                n1, total1 = self.width - n0, self.total - total0
                if n0 < MIN_PART or n1 < MIN_PART:
                    continue
                harmonic = 1.0 / (n0 - MIN_PART + 1) + 1.0 / (n1 - MIN_PART + 1)
                epsilon = math.sqrt(spread * harmonic) + 2.0 / 3.0 * confidence * harmonic
                if abs(total0 / n0 - total1 / n1) > epsilon:
                    return epsilon
        return None

    def _drop_oldest(self) -> None:
        oldest = next(level for level in reversed(self.levels) if level).pop(0)
        while len(self.levels) > 1 and not self.levels[-1]:
            self.levels.pop()
        rest, rest_total = self.width - oldest.size, self.total - oldest.total
        between = _between(oldest.size, oldest.total, rest, rest_total)
        self.variance = max(0.0, self.variance - oldest.variance - between)
        self.width, self.total = rest, rest_total

    def dump(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        levels = [[[b.size, b.total, b.variance, b.row, b.time] for b in level] for level in self.levels]
        return {"ticks": self.ticks, "width": self.width, "total": self.total, "var": self.variance, "levels": levels}

    @classmethod
    def load(cls, delta: float, dumped: dict[str, Any]) -> "Adwin":
        """What ``dump`` gave, back."""
        levels: Sequence[Sequence[Sequence[Any]]] = dumped["levels"]
        return cls(
            delta,
            ticks=dumped["ticks"],
            levels=[[Bucket(*values) for values in level] for level in levels],
            width=dumped["width"],
            total=dumped["total"],
            variance=dumped["var"],
        )


def _between(n0: int, total0: float, n1: int, total1: float) -> float:
    """What the difference of two parts' means adds to the sum of squares of both together."""
    return n0 * n1 * (total0 / n0 - total1 / n1) ** 2 / (n0 + n1) if n0 and n1 else 0.0
