"""Do columns hang together as they did? A classifier that is to tell a window's rows from the reference's by that.

A change no column shows by itself, such as a correlation that turned round, lets a classifier tell the two apart
(classifier two-sample test: Lopez-Paz & Oquab 2017). Every column is first mapped to normal scores by its own counts on
either side, so that shifts of single columns, which have tests of their own, do not count here. Of the products of two
columns a linear rule keeps those whose mean differs clearly (features annealed independence rule, Fan & Fan 2008). It
learns from one half of both samples and is judged by the other, so its AUC has the law of the Mann-Whitney
statistic when nothing has changed, whatever the rule is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from tidemill_monitoring.domain.divergence import Counts
from tidemill_monitoring.domain.reference import MISSING, ReferenceColumn
from tidemill_monitoring.domain.sample import Codes

_CATEGORIES = 3
"""Of a categorical column, the most frequent ones are told apart."""
_KEPT = 0.7
"""Products whose t statistic reaches this part of the largest are kept even below the threshold for noise."""
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NormalNull:
    """A statistic that is normal around 0 when nothing has changed."""

    deviation: float

    def threshold(self, rate: float) -> float:
        """The value exceeded with probability ``rate``."""
        from scipy.special import ndtri

        return float(-ndtri(rate) * self.deviation)

    def p_value(self, statistic: float) -> float:
        """Probability of at least this value when nothing has changed."""
        return 0.5 * math.erfc(statistic / self.deviation / math.sqrt(2))


@dataclass(frozen=True, slots=True)
class Told:
    """How well the classifier told the two samples apart."""

    statistic: float
    """2 AUC - 1: 0 is chance, 1 is perfect."""
    null: NormalNull
    pair: tuple[int, int]
    """The two columns that tell most."""


@dataclass(frozen=True, slots=True)
class Side:
    """A sample with the counts of all the rows it was drawn from."""

    codes: Codes
    """[rows, columns]."""
    counts: Sequence[Counts]


def told_apart(columns: Sequence[ReferenceColumn], before: Side, now: Side) -> Told | None:
    """Train and judge the classifier; None with fewer than two columns that vary."""
    found = [_scores(columns, side) for side in (before, now)]
    origins = found[0][1]
    pairs = [(a, b) for a, b in combinations(range(len(origins)), 2) if origins[a] != origins[b]]
    if not pairs:
        return None
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    old, new = (scores[:, first] * scores[:, second] for scores, _ in found)
    weights = _rule(old[::2], new[::2])
    auc, ties = _auc(old[1::2] @ weights, new[1::2] @ weights)
    m, n = len(old[1::2]), len(new[1::2])
    deviation = 2 * math.sqrt((m + n + 1 - ties) / (12 * m * n))
    if not deviation > 0:
        return None
    most = int(np.argmax(np.abs(weights)))
    return Told(2 * auc - 1, NormalNull(deviation), (origins[first[most]], origins[second[most]]))


def _scores(columns: Sequence[ReferenceColumn], side: Side) -> tuple[Matrix, list[int]]:
    """Normal scores [rows, parts] of a side, and the column each part comes from."""
    parts: list[npt.NDArray[np.float64]] = []
    origins: list[int] = []
    for at, (column, counts) in enumerate(zip(columns, side.counts, strict=True)):
        tables = _tables(column, counts)
        parts += [table[side.codes[:, at]] for table in tables]
        origins += [at] * len(tables)
    return np.column_stack(parts) if parts else np.empty((len(side.codes), 0)), origins


def _tables(column: ReferenceColumn, counts: Counts) -> list[npt.NDArray[np.float64]]:
    """The score of every code: a number's bin as the normal quantile of its middle rank; for a categorical column one
    table a frequent category, which is in or out. Mean 0, deviation 1; what is missing or new scores 0."""
    from scipy.special import ndtri

    total = counts.sum()
    if column.kind == "numeric":
        ranks = (np.cumsum(counts) - counts / 2 + 0.5) / (total + 1)
        values = [ndtri(ranks)]
    else:
        frequent = np.argsort(-column.counts, kind="stable")[:_CATEGORIES]
        values = [np.equal(np.arange(len(counts)), place).astype(np.float64) for place in frequent]
        values = values[:1] if len(counts) == 2 else values
    return [_standard(value, counts) for value in values]


def _standard(values: npt.NDArray[np.float64], counts: Counts) -> npt.NDArray[np.float64]:
    table = np.zeros(MISSING + 1)
    total = max(float(counts.sum()), 1.0)
    mean = float(values @ counts) / total
    deviation = math.sqrt(max(float((values - mean) ** 2 @ counts) / total, 0.0))
    if deviation > 0:
        known = values[: MISSING - 1]
        table[: len(known)] = (known - mean) / deviation
    return table


def _rule(old: Matrix, new: Matrix) -> npt.NDArray[np.float64]:
    """Weights of the products, from rows to learn from."""
    spread = np.sqrt(old.var(axis=0) / len(old) + new.var(axis=0) / len(new))
    t = np.divide(new.mean(axis=0) - old.mean(axis=0), spread, out=np.zeros_like(spread), where=spread > 0)
    size = np.abs(t)
    floor = min(math.sqrt(2 * math.log(len(t) + 1)), _KEPT * float(size.max()))
    pooled = np.sqrt((old.var(axis=0) + new.var(axis=0)) / 2)
    weights = np.zeros(len(pooled))
    np.divide(np.where(size >= floor, t, 0.0), pooled, out=weights, where=pooled > 0)
    return weights


def _auc(old: npt.NDArray[np.float64], new: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Probability that a new row scores higher, ties counting half, and what ties take off the variance."""
    scores = np.concatenate([old, new])
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    m, n = len(old), len(new)
    auc = (float(ranks[m:].sum()) - n * (n + 1) / 2) / (m * n)
    total = m + n
    return auc, float((counts**3 - counts).sum()) / (total * (total - 1))
