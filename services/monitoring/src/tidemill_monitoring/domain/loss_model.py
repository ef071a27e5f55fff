"""The loss a regression should have, from its inputs alone: direct loss estimation without labels.

An additive model of the loss over the bins of every column and of the answer, learned from labelled rows by normalised
least mean squares (Widrow & Hoff 1960). Because it is additive over bins, a window's counts alone give its mean loss,
so that no row is kept. It assumes that the loss still depends on the inputs as it did (NannyML's DLE makes the same
assumption with boosted trees).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tidemill_monitoring.domain.reference import Reference, ReferenceColumn, category_key
from tidemill_monitoring.domain.window import ColumnCounts, RowWindow

_LEAST_RATE = 0.02
_LEAST_ROWS = 200
"""Labelled rows before the model is asked."""


@dataclass(slots=True)
class LossModel:
    """``weights[c][b]`` is what bin b of column c adds to the mean loss; the last two bins are missing and unseen."""

    weights: list[list[float]] = field(default_factory=list)
    base: float = 0.0
    rows: int = 0

    def learn(self, reference: Reference, features: Mapping[str, Any], answer: Any, loss: float) -> None:
        """A labelled row had this loss."""
        places = [_bin(c, features.get(c.name)) for c in reference.columns] + [_bin(reference.prediction, answer)]
        if not self.weights:
            self.weights = [[0.0] * (len(c.counts) + 2) for c in (*reference.columns, reference.prediction)]
        self.rows += 1
        self.base += (loss - self.base) / self.rows
        off = loss - self.base - sum(w[b] for w, b in zip(self.weights, places, strict=True))
        step = off * max(_LEAST_RATE, 1 / math.sqrt(self.rows)) / len(places)
        for weights, place in zip(self.weights, places, strict=True):
            weights[place] += step

    def estimate(self, window: RowWindow) -> float | None:
        """The mean loss to expect of a window's rows; None before enough was learned."""
        if self.rows < _LEAST_ROWS or not window.rows:
            return None
        pairs = zip(self.weights, (*window.columns, window.prediction), strict=True)
        return max(0.0, self.base + sum(_mean(weights, counts) for weights, counts in pairs))

    def dump(self) -> list[Any]:
        """As JSON values."""
        return [[[float(f"{w:.5g}") for w in weights] for weights in self.weights], self.base, self.rows]

    @classmethod
    def load(cls, dumped: list[Any]) -> "LossModel":
        """What ``dump`` gave, back."""
        return cls(*dumped)


def _mean(weights: list[float], counts: ColumnCounts) -> float:
    cells = [*counts.counts, counts.missing]
    total = sum(cells)
    return sum(w * n for w, n in zip(weights, cells, strict=False)) / total if total else 0.0


def _bin(column: ReferenceColumn, value: Any) -> int:
    bins = len(column.counts)
    if value is None or value == "":
        return bins
    if column.kind == "categorical":
        return column.categories.get(category_key(value), bins + 1)
    if isinstance(value, str) or math.isnan(value):
        return bins
    return int(np.searchsorted(column.edges, value, side="right"))
