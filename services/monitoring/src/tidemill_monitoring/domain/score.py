"""Realized performance of labelled rows, with its standard error.

Every metric but ROC AUC is a ratio of sums over rows, whose standard error follows from the rows' influences
(infinitesimal jackknife, Efron 1982); that of ROC AUC is Hanley & McNeil's (1982).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "mae", "rmse"})
_CLIP = 1e-15


@dataclass(frozen=True, slots=True)
class Outcome:
    """A labelled prediction: class indices (truth -1: a class the model does not know) or values."""

    truth: float
    predicted: float
    probabilities: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """A metric over some rows."""

    value: float
    error: float
    """Standard error."""
    rows: int

    def better_bound(self, metric: str, rate: float) -> float:
        """How good it may be at most, with probability ``1 - rate``."""
        return self.value + self._margin(metric, rate)

    def worse_bound(self, metric: str, rate: float) -> float:
        """How good it is at least, with probability ``1 - rate``."""
        return self.value - self._margin(metric, rate)

    def _margin(self, metric: str, rate: float) -> float:
        margin = NormalDist().inv_cdf(1 - rate) * self.error
        return -margin if metric in LOWER_IS_BETTER else margin


def score(metric: str, outcomes: Sequence[Outcome], *, classes: int, positive: int) -> Score | None:
    """The metric over the rows; None where it is undefined (no row, no positive, one class, no probabilities).

    ``classes`` is the number of classes (0 for regression), ``positive`` the index of the positive one. With more
    than two classes precision, recall, F1 and ROC AUC are macro averages.
    """
    if not outcomes:
        return None
    truth = np.array([o.truth for o in outcomes])
    predicted = np.array([o.predicted for o in outcomes])
    if metric in ("mae", "rmse", "r2"):
        return _regression(metric, truth, predicted)
    if metric == "accuracy":
        return _ratios([(truth == predicted).astype(np.float64)], [np.ones(len(truth))])
    targets = [positive] if classes <= 2 else sorted({int(k) for k in (*truth, *predicted) if k >= 0})
    if metric in ("f1", "precision", "recall"):
        return _counted(metric, truth, predicted, targets)
    widest = max(len(o.probabilities) for o in outcomes)
    if widest < 2 or any(len(o.probabilities) != widest for o in outcomes):
        return None
    probabilities = np.array([o.probabilities for o in outcomes])
    if metric == "roc_auc":
        return _roc_auc(truth, probabilities, targets)
    hot = (truth[:, None] == np.arange(widest)[None, :]).astype(np.float64)
    if metric == "log_loss":
        losses = -np.log(np.clip((probabilities * hot).sum(axis=1), _CLIP, 1.0))
    else:
        losses = ((probabilities - hot) ** 2).sum(axis=1) / (2.0 if widest == 2 else 1.0)
    return _ratios([losses], [np.ones(len(truth))])


def _counted(metric: str, truth: Array, predicted: Array, targets: Sequence[int]) -> Score | None:
    above, below = [], []
    for k in targets:
        hit = ((truth == k) & (predicted == k)).astype(np.float64)
        claimed, real = (predicted == k).astype(np.float64), (truth == k).astype(np.float64)
        a = 2 * hit if metric == "f1" else hit
        b = {"f1": claimed + real, "precision": claimed, "recall": real}[metric]
        if b.sum() > 0:
            above.append(a)
            below.append(b)
    return _ratios(above, below) if above else None


def _ratios(above: Sequence[Array], below: Sequence[Array]) -> Score:
    """The mean of ratios of sums over rows."""
    ratios = [float(a.sum() / b.sum()) for a, b in zip(above, below, strict=True)]
    influence = np.mean([(a - r * b) / b.sum() for a, b, r in zip(above, below, ratios, strict=True)], axis=0)
    # A handful of rows that agree has no spread but proves little.
    least = 1.0 / (min(float(b.sum()) for b in below) + 2.0) if max(ratios) <= 1 else 0.0
    return Score(float(np.mean(ratios)), max(float(np.sqrt((influence**2).sum())), least), len(above[0]))


def _regression(metric: str, truth: Array, predicted: Array) -> Score | None:
    squares = (truth - predicted) ** 2
    ones = np.ones(len(truth))
    if metric == "mae":
        return _ratios([np.abs(truth - predicted)], [ones])
    if metric == "rmse":
        mean = _ratios([squares], [ones])
        root = math.sqrt(mean.value)
        return Score(root, mean.error / (2 * root) if root > 0 else 0.0, mean.rows)
    spread = (truth - truth.mean()) ** 2
    if spread.sum() <= 0:
        return None
    ratio = _ratios([squares], [spread])
    return Score(1 - ratio.value, ratio.error, ratio.rows)


def _roc_auc(truth: Array, probabilities: Array, targets: Sequence[int]) -> Score | None:
    areas, variances = [], []
    for k in targets:
        real = truth == k
        positives, negatives = int(real.sum()), int((~real).sum())
        if not positives or not negatives:
            continue
        _, inverse, sizes = np.unique(probabilities[:, k], return_inverse=True, return_counts=True)
        ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[inverse]
        area = float((ranks[real].sum() - positives * (positives + 1) / 2) / (positives * negatives))
        q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
        variance = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
        areas.append(area)
        variances.append(max(variance, 0.25 / min(positives, negatives)) / (positives * negatives))
    if not areas:
        return None
    return Score(float(np.mean(areas)), math.sqrt(sum(variances)) / len(areas), len(truth))


def reported(metric: str, value: float, rows: int) -> Score:
    """A score somebody else computed on ``rows`` rows, with a standard error guessed from their number.

    Bounded metrics: binomial, with at least one row in doubt; losses: as large as the loss over the root of the rows.
    """
    rows = max(rows, 1)
    bounded = metric not in ("log_loss", "mae", "rmse", "r2")
    spread = math.sqrt(max(value * (1 - value), 1 / rows)) if bounded else abs(value)
    return Score(value, spread / math.sqrt(rows), rows)
