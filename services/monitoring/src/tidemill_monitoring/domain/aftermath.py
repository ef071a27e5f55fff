"""Whether errors come back by themselves after an alarm: a test of equivalence on the rows that follow it.

An alarm may have been an accident, or wrong labels that have stopped. The rows after it are new evidence: when the
rise that is left is surely less than what counts as recovered, and than half of what the alarm said, the world is as
before. A window of rows is looked at a few times, and the next window begins anew.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

_SURE = 1.645
"""Standard errors of a one-sided 95 %."""
_LOOKS = (0.5, 0.75, 1.0)
"""Shares of a window after which it is looked at."""


@dataclass(slots=True)
class Aftermath:
    """The errors (0 to 1) since an alarm."""

    calm_mean: float
    """Mean error before the alarm."""
    calm_rows: int
    bound: float
    """A rise that is surely smaller is none."""
    window: int
    rows: int = 0
    total: float = 0.0
    squares: float = 0.0

    def take(self, error: float) -> bool:
        """Take the error of one more row; whether errors are as they were before the alarm."""
        self.rows += 1
        self.total += error
        self.squares += error * error
        if self.rows not in {round(share * self.window) for share in _LOOKS}:
            return False
        back = self._left() < self.bound
        if self.rows >= self.window:
            self.rows, self.total, self.squares = 0, 0.0, 0.0
        return back

    def _left(self) -> float:
        """The upper bound of the rise that is left."""
        mean = self.total / self.rows
        variance = max(self.squares / self.rows - mean * mean, 1 / self.rows)
        return mean - self.calm_mean + _SURE * math.sqrt(variance * (1 / self.rows + 1 / max(self.calm_rows, 1)))

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Self:
        """What ``dump`` gave, back."""
        return cls(**dumped)
