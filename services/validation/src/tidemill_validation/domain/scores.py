"""Metrics of weighted rows, on many weightings at once: one weighting of ones is the score, many are a bootstrap.

Definitions as in scikit-learn, which the tests compare with. Written here because the judge shall not share code with
what it judges, and because a bootstrap over 2 000 resamples needs each metric in a few array operations.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill_validation.domain.answers import Answers

Array = NDArray[Any]
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "mae", "rmse"})
CLASSIFICATION = ("accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "brier")
REGRESSION = ("mae", "rmse", "r2")


def score(metric: str, y: Array, answers: Answers, positive: int) -> float:
    """One metric on [n] rows, ``y`` class indexes or values. Binary metrics are about ``positive``; with more classes,
    macro averages. NaN where a metric is undefined (the area under the curve of rows that lack a class)."""
    return float(weighted(metric, y, answers, positive, np.ones((1, len(y))))[0])


def weighted(metric: str, y: Array, answers: Answers, positive: int, weights: Array) -> Array:
    """The metric for each row of ``weights`` [m, n], which say how often each row counts: [m]."""
    if answers.values is not None:
        return _of_values(metric, y, answers.values, weights)
    assert answers.labels is not None and answers.probabilities is not None  # noqa: S101 - a classifier gives both
    p, k = answers.probabilities, answers.probabilities.shape[1]
    total = weights.sum(axis=1)
    if metric == "accuracy":
        return _mean((answers.labels == y).astype(float), weights, total)
    if metric == "log_loss":
        p = np.clip(p, 1e-15, 1)
        return _mean(-np.log(p[np.arange(len(y)), y] / p.sum(axis=1)), weights, total)
    if metric == "brier":
        return _mean(((p - np.eye(k)[y]) ** 2).sum(axis=1) / (2 if k == 2 else 1), weights, total)
    classes = [positive] if k == 2 else list(range(k))
    if metric == "roc_auc":
        return _average([_area(y == c, p[:, c], weights) for c in classes])
    return _average([_of_class(metric, y == c, answers.labels == c, weights) for c in classes])


def _mean(rows: Array, weights: Array, total: Array) -> Array:
    found: Array = weights @ rows / total
    return found


def _average(found: list[Array]) -> Array:
    mean: Array = np.mean(found, axis=0)
    return mean


def _of_values(metric: str, y: Array, values: Array, weights: Array) -> Array:
    total = weights.sum(axis=1)
    if metric == "mae":
        return _mean(np.abs(values - y), weights, total)
    squares = _mean((values - y) ** 2, weights, total)
    if metric == "rmse":
        root: Array = np.sqrt(squares)
        return root
    centred = y - y.mean()
    variance = _mean(centred**2, weights, total) - _mean(centred, weights, total) ** 2
    known = variance > 1e-12 * max(float((centred**2).mean()), 1e-300)
    r2: Array = 1 - np.divide(squares, variance, out=np.full_like(squares, np.nan), where=known)
    return r2


def _of_class(metric: str, true: Array, said: Array, weights: Array) -> Array:
    """Precision, recall or F1 from confusion counts; 0 where nothing can be counted."""
    hits, trues, saids = (weights @ column.astype(float) for column in (true & said, true, said))
    below = {"precision": saids, "recall": trues, "f1": (saids + trues) / 2}[metric]
    share: Array = np.divide(hits, below, out=np.zeros_like(hits), where=below > 0)
    return share


def _area(true: Array, odds: Array, weights: Array) -> Array:
    """Area under the ROC curve as the Mann-Whitney statistic: the share of pairs in the right order, ties half."""
    order = np.argsort(odds, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(odds[order]) > 0])
    w, t = weights[:, order].astype(float), true[order]
    pos, neg = (np.add.reduceat(w * part, starts, axis=1) for part in (t, ~t))
    below = np.cumsum(neg, axis=1) - neg / 2
    pairs = pos.sum(axis=1) * neg.sum(axis=1)
    area: Array = np.divide((pos * below).sum(axis=1), pairs, out=np.full(len(w), np.nan), where=pairs > 0)
    return area
