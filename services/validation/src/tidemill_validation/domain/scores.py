"""Metrics, and their values on many resamples at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as m

from tidemill_validation.domain.package import Answers

Array = NDArray[Any]
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "mae", "rmse"})


def oriented(metric: str, value: float) -> float:
    """Turned so that more is better."""
    return -value if metric in LOWER_IS_BETTER else value


def score(metric: str, y: Array, answers: Answers, positive: int) -> float:
    """One metric on [n] rows. Binary metrics are about ``positive``; with more classes, macro averages.
    ROC AUC of rows that lack a class is undefined and given as NaN."""
    if answers.values is not None:
        function = {"mae": m.mean_absolute_error, "rmse": m.root_mean_squared_error, "r2": m.r2_score}[metric]
        return float(function(y, answers.values))
    labels, p = answers.labels, answers.probabilities
    assert labels is not None and p is not None  # noqa: S101 - a classifier's answers have both
    k = p.shape[1]
    every = list(range(k))
    if metric == "accuracy":
        return float((labels == y).mean())
    if metric in ("precision", "recall", "f1"):
        average: dict[str, Any] = {"pos_label": positive} if k == 2 else {"average": "macro", "labels": every}
        chosen = {"precision": m.precision_score, "recall": m.recall_score, "f1": m.f1_score}[metric]
        return float(chosen(y, labels, zero_division=0.0, **average))
    if metric == "log_loss":
        return float(m.log_loss(y, np.clip(p, 1e-15, 1), labels=every))
    if metric == "brier":
        return float(((p - np.eye(k)[y]) ** 2).sum(axis=1).mean() / (2 if k == 2 else 1))
    if len(np.unique(y)) < k:
        return float("nan")
    if k == 2:
        return float(m.roc_auc_score(y == positive, p[:, positive]))
    return float(m.roc_auc_score(y, p, multi_class="ovr", labels=every))


def losses(metric: str, y: Array, answers: Answers) -> Array | None:
    """The loss of each row where the metric is a mean over rows (or its root), else None."""
    if answers.values is not None:
        error = answers.values - y
        apart: Array = np.abs(error) if metric == "mae" else error**2
        return None if metric == "r2" else apart
    assert answers.labels is not None and answers.probabilities is not None  # noqa: S101
    p, k = answers.probabilities, answers.probabilities.shape[1]
    if metric == "accuracy":
        right: Array = (answers.labels == y).astype(float)
        return right
    if metric == "log_loss":
        surprise: Array = -np.log(np.clip(p[np.arange(len(y)), y], 1e-15, 1))
        return surprise
    if metric == "brier":
        squares: Array = ((p - np.eye(k)[y]) ** 2).sum(axis=1) / (2 if k == 2 else 1)
        return squares
    return None


def resampled(metric: str, y: Array, answers: Answers, positive: int, weights: Array) -> Array:
    """The metric on each resample; ``weights`` [resamples, n] says how often each row is drawn."""
    rows = losses(metric, y, answers)
    if rows is not None:
        means: Array = weights @ rows / weights.sum(axis=1)
        return np.sqrt(means) if metric == "rmse" else means
    if answers.labels is not None and metric in ("precision", "recall", "f1") and answers.probabilities is not None:
        k = answers.probabilities.shape[1]
        classes = [positive] if k == 2 else list(range(k))
        macro: Array = np.mean([_of_class(metric, y, answers.labels, c, weights) for c in classes], axis=0)
        return macro
    index = np.arange(len(y))
    drawn = []
    for w in weights:
        chosen = np.repeat(index, w.astype(int))
        drawn.append(score(metric, y[chosen], _take(answers, chosen), positive))
    return np.array(drawn)


def _of_class(metric: str, y: Array, labels: Array, c: int, weights: Array) -> Array:
    hit = weights @ ((y == c) & (labels == c)).astype(float)
    said, true = weights @ (labels == c).astype(float), weights @ (y == c).astype(float)
    below = {"precision": said, "recall": true, "f1": (said + true) / 2}[metric]
    ratio: Array = np.divide(hit, below, out=np.zeros_like(hit), where=below > 0)
    return ratio


def _take(answers: Answers, index: Array) -> Answers:
    def pick(a: Array | None) -> Array | None:
        return None if a is None else a[index]

    return Answers(pick(answers.labels), pick(answers.probabilities), pick(answers.values))
