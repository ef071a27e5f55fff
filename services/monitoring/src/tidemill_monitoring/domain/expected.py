"""The score a classifier should have by its own probabilities: estimated performance without labels.

Confidence-based performance estimation: if the calibrated probability of the answered class is right on average, sums
of probabilities estimate the cells of the confusion matrix (NannyML's CBPE, 2021). It sees changes of P(x), not of
P(y|x).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_BINS = 10
_PRIOR_ROWS = 20
"""Labelled rows by which a bin's rate outweighs the probability itself."""
_MOST_CLASSES = 20
_CLIP = 1e-15


@dataclass(slots=True)
class Confidence:
    """How often the champion's answers were right, by the probability it gave them."""

    rows: list[int] = field(default_factory=lambda: [0] * _BINS)
    right: list[int] = field(default_factory=lambda: [0] * _BINS)

    @property
    def learned(self) -> int:
        """Labelled rows it has seen."""
        return sum(self.rows)

    def learn(self, probability: float, right: bool) -> None:
        """An answer of this probability was right or not."""
        at = _bin(probability)
        self.rows[at] += 1
        self.right[at] += right

    def chance(self, probability: float) -> float:
        """The probability that such an answer is right: the bin's rate, shrunk to the probability itself."""
        at = _bin(probability)
        return (self.right[at] + _PRIOR_ROWS * probability) / (self.rows[at] + _PRIOR_ROWS)


@dataclass(slots=True)
class Expected:
    """Sums over a window's answers: the confusion matrix to expect [answered][true], and the losses."""

    rows: int = 0
    confusion: list[list[float]] = field(default_factory=list)
    log_loss: float = 0.0
    brier: float = 0.0

    def add(self, answered: int, probabilities: Sequence[float], confidence: Confidence) -> None:
        """Take an answer: the position of its class, and the probabilities of all classes."""
        count = len(probabilities)
        if not 0 <= answered < count <= _MOST_CLASSES or count < 2:
            return
        own = probabilities[answered]
        chance = confidence.chance(own)
        others = (1 - chance) / (1 - own) if own < 1 else 0.0
        true = [chance if k == answered else p * others for k, p in enumerate(probabilities)]
        if not self.confusion:
            self.confusion = [[0.0] * count for _ in range(count)]
        if len(self.confusion) != count:
            return
        self.rows += 1
        row = self.confusion[answered]
        for k, q in enumerate(true):
            row[k] += q
        self.log_loss -= sum(q * math.log(max(p, _CLIP)) for p, q in zip(probabilities, true, strict=True) if q)
        squares = 1 + sum(p * (p - 2 * q) for p, q in zip(probabilities, true, strict=True))
        self.brier += squares / (2 if count == 2 else 1)

    def merge(self, other: "Expected") -> None:
        """Add another window's sums."""
        if not self.confusion:
            self.confusion = [[0.0] * len(other.confusion) for _ in other.confusion]
        if len(self.confusion) != len(other.confusion):
            return
        pairs = zip(self.confusion, other.confusion, strict=True)
        self.confusion = [[a + b for a, b in zip(x, y, strict=True)] for x, y in pairs]
        self.rows += other.rows
        self.log_loss += other.log_loss
        self.brier += other.brier

    def value(self, metric: str, positive: int) -> float | None:
        """The metric to expect; None without answers, or for one that a confusion matrix does not tell (ROC AUC)."""
        if not self.rows:
            return None
        table, classes = self.confusion, range(len(self.confusion))
        if metric == "accuracy":
            return sum(table[k][k] for k in classes) / self.rows
        if metric in ("log_loss", "brier"):
            return (self.log_loss if metric == "log_loss" else self.brier) / self.rows
        if metric not in ("f1", "precision", "recall"):
            return None
        found = []
        for k in [positive] if len(table) == 2 else classes:
            claimed, real = sum(table[k]), sum(row[k] for row in table)
            below = {"f1": (claimed + real) / 2, "precision": claimed, "recall": real}[metric]
            if below > 0:
                found.append(table[k][k] / below)
        return sum(found) / len(found) if found else None

    def dump(self) -> list[Any]:
        """As JSON values."""
        return [self.rows, self.confusion, self.log_loss, self.brier]

    @classmethod
    def load(cls, dumped: list[Any]) -> "Expected":
        """What ``dump`` gave, back."""
        return cls(*dumped)


def _bin(probability: float) -> int:
    return min(_BINS - 1, max(0, int(probability * _BINS)))
