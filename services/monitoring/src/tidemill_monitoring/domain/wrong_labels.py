"""Labels that are wrong at random, told from a world that has changed.

Labels flipped at rate r turn an error rate e into e + r (1 - 2 e) everywhere alike. A change of concept lies somewhere:
in some groups of some column, or of the model's own confidence, errors rise more than that. So errors that rose evenly
over all groups are taken for wrong labels, at rates at which they cannot be a concept turned round; when they last, for
a change.
"""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tidemill_monitoring.domain.outcome import AnsweredRow
from tidemill_monitoring.domain.reference import Reference, ReferenceColumn, category_key

_GROUPS = 5
_COLUMNS = 8
_RECENT = 256
_LEAST_KNOWN = 100
_LEAST_ROWS, _ENOUGH_ROWS = 60, 120
"""Rows after the change before anything is said, and before errors that look even are called so."""
_RATES = (0.2, 0.6)
_LOOK_ROWS = 20
_UNEVEN, _UNEVEN_EARLY = 0.02, 0.003
_CALM_ROWS = 40

Groups = tuple[int, ...]


@dataclass(slots=True)
class ErrorPattern:
    """The champion's latest labelled rows by group, and the error rates of the groups before them."""

    recent: deque[tuple[int, int, Groups]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    """Row number, 0 or 1, and the row's group in each column."""
    known: dict[str, list[int]] = field(default_factory=dict)
    """Rows and errors of earlier rows, by ``column:group``."""
    total: list[int] = field(default_factory=lambda: [0, 0])

    def take(self, number: int, error: int, groups: Groups) -> None:
        """Take labelled row ``number``."""
        if len(self.recent) == _RECENT:
            _, old, at = self.recent[0]
            for column, group in enumerate(at):
                sums = self.known.setdefault(f"{column}:{group}", [0, 0])
                sums[0], sums[1] = sums[0] + 1, sums[1] + old
            self.total = [self.total[0] + 1, self.total[1] + old]
        self.recent.append((number, error, groups))

    def judge(self, began: int) -> Literal["uneven", "even"] | None:
        """How errors rose from row ``began`` on; None: too few rows yet to tell."""
        before = [row for row in self.recent if row[0] < began]
        after = [row for row in self.recent if row[0] >= began]
        rows, errors = self.total[0] + len(before), self.total[1] + sum(e for _, e, _ in before)
        if rows < _LEAST_KNOWN or not after:
            return "uneven"
        base = (errors + 1) / (rows + 2)
        rate = _flipped(sum(e for _, e, _ in after) / len(after), base)
        # A few rows tell the rate badly: two standard errors of a coin are left to it.
        slack = 1 / math.sqrt(len(after)) if len(after) < _LEAST_ROWS else 0.0
        if not _RATES[0] - slack <= rate <= _RATES[1] + slack:
            return "uneven"
        enough = len(after) >= _ENOUGH_ROWS
        # Each look is a chance to err, so there are few of them.
        if len(after) < _LEAST_ROWS or (not enough and len(after) % _LOOK_ROWS):
            return None
        columns = range(len(after[0][2]))
        least = min(self._p_value(c, before, after, base, rate) for c in columns) * len(columns)
        if least < (_UNEVEN if enough else _UNEVEN_EARLY):
            return "uneven"
        return "even" if enough else None

    def _p_value(self, column: int, before: Sequence[Any], after: Sequence[Any], base: float, rate: float) -> float:
        """Of the errors after the change by group, against what flipped labels would make of those before."""
        from scipy.special import gammaincc  # here, because most monitors never need it

        square, groups = 0.0, 0
        for group in {at[column] for _, _, at in after}:
            mine = [e for _, e, at in after if at[column] == group]
            if len(mine) < 5:
                continue
            rows, errors = self.known.get(f"{column}:{group}", (0, 0))
            earlier = [e for _, e, at in before if at[column] == group]
            own = (errors + sum(earlier) + 10 * base) / (rows + len(earlier) + 10)
            expected = min(max(own + rate * (1 - 2 * own), 0.01), 0.99)
            square += (sum(mine) - len(mine) * expected) ** 2 / (len(mine) * expected * (1 - expected))
            groups += 1
        return float(gammaincc((groups - 1) / 2, square / 2)) if groups > 1 else 1.0

    def calm(self, began: int) -> bool:
        """Whether the latest rows are nearer to the errors before row ``began`` than to those since."""
        if len(self.recent) < _CALM_ROWS or self.recent[-_CALM_ROWS][0] < began:
            return False
        before = [e for n, e, _ in self.recent if n < began]
        rows, errors = self.total[0] + len(before), self.total[1] + sum(before)
        latest = [e for _, e, _ in list(self.recent)[-_CALM_ROWS:]]
        base = errors / rows if rows else 0.0
        return sum(latest) / _CALM_ROWS < base + _RATES[0] / 2 * (1 - 2 * base)

    def dump(self) -> list[Any]:
        """As JSON values."""
        return [list(self.recent), self.known, self.total]

    @classmethod
    def load(cls, dumped: list[Any]) -> "ErrorPattern":
        """What ``dump`` gave, back."""
        recent, known, total = dumped
        rows = ((number, error, tuple(groups)) for number, error, groups in recent)
        return cls(deque(rows, maxlen=_RECENT), known, total)


class Grouping:
    """Which group a row is in, in each of the most important columns, and by the answer and its probability."""

    def __init__(self, reference: Reference) -> None:
        self.digest = reference.digest
        columns = sorted(reference.columns, key=lambda c: -(c.importance or 0.0))[:_COLUMNS]
        # Plain lists: a single number is found in them ten times as fast as in an array.
        self._columns = [(c, c.edges.tolist()) for c in columns]

    def of(self, row: AnsweredRow) -> Groups:
        """The row's groups."""
        highest = max(row.answer.probabilities, default=1.0)
        answered = sum(map(ord, str(row.answer.prediction))) % 97
        sure = min(_GROUPS - 1, int((highest - 0.5) * 2 * _GROUPS))
        return (*(_group(c, edges, row.features.get(c.name)) for c, edges in self._columns), answered, sure)


def _group(column: ReferenceColumn, edges: list[float], value: Any) -> int:
    if value is None or value == "":
        return -1
    if column.kind == "categorical":
        return min(column.categories.get(category_key(value), _COLUMNS), _COLUMNS)
    if isinstance(value, str) or math.isnan(value):
        return -1
    return bisect_right(edges, value) * _GROUPS // (len(edges) + 1)


def _flipped(after: float, base: float) -> float:
    """The share of flipped labels that makes an error rate ``after`` of ``base``."""
    return (after - base) / (1 - 2 * base) if base < 0.45 else 0.0
