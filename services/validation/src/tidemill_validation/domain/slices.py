"""Parts of the rows on which a challenger may not be worse, however much better it is on the whole."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill_validation.domain.answers import Answers
from tidemill_validation.domain.bootstrap import of_losses

Array = NDArray[Any]
_PARTS = 4


@dataclass(frozen=True)
class Slice:
    """Rows [n] of a kind."""

    name: str
    rows: Array


def slices(columns: dict[str, Array], least: int) -> list[Slice]:
    """Of each column [n] its values, or where it is numeric its quarters, with at least ``least`` rows. Missing values
    are a slice of their own."""
    found = []
    for name, values in columns.items():
        numeric = np.issubdtype(values.dtype, np.number)
        for label, rows in _ranges(values) if numeric else _values(values):
            found.append(Slice(f"{name} {label}", rows))
    return [s for s in found if s.rows.sum() >= least]


def _values(values: Array) -> list[tuple[str, Array]]:
    return [(f"= {str(v)!r}", values == v) for v in np.unique(values)]


def _ranges(values: Array) -> list[tuple[str, Array]]:
    known = values[np.isfinite(values)]
    if not len(known):
        return []
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _PARTS + 1)[1:-1]))
    part = np.searchsorted(edges, values, side="right")
    bounds = [-np.inf, *edges.tolist(), np.inf]
    names = [f"from {low:g} to {high:g}" for low, high in pairwise(bounds)]
    ranges = [(name, np.isfinite(values) & (part == i)) for i, name in enumerate(names)]
    return [*ranges, ("missing", ~np.isfinite(values))]


def row_losses(y: Array, answers: Answers, costs: Array | None = None) -> Array:
    """[n]: the cost of each answer by ``costs`` [truth, answer], or 1 for a wrong class, or the absolute error."""
    if answers.labels is None:
        assert answers.values is not None  # noqa: S101 - a regression answers with values
        return np.asarray(np.abs(answers.values - y), np.float64)
    if costs is not None:
        return np.asarray(costs[y, answers.labels], np.float64)
    return np.asarray(answers.labels != y, np.float64)


def worst(
    found: list[Slice],
    champion: Array,
    challenger: Array,
    margin: float,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> tuple[str, float] | None:
    """The slice on which the challenger's mean loss [n] is surely more than ``margin`` times the champion's mean loss
    over all rows above the champion's, with how much; None when there is none. All slices together are wrong no more
    often than ``confidence`` allows (Bonferroni)."""
    scale = float(champion.mean()) or 1.0
    each = 1 - (1 - confidence) / max(1, len(found))
    worse = []
    for part in found:
        d = of_losses(champion[part.rows], challenger[part.rows], resamples=resamples, confidence=each, seed=seed)
        if d.high < -margin * scale:
            worse.append((part.name, d.difference))
    return min(worse, key=lambda w: w[1], default=None)
