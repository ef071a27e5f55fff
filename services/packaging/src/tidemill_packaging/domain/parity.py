"""Does the package answer as the trained model does?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

Array = NDArray[Any]
_VALUE_TOLERANCE = 1e-3
"""Two values agree when they differ by less than this many standard deviations of the target."""


@dataclass(frozen=True)
class Reading:
    """How a classifier's probabilities are read and scored."""

    metric: str
    positive: int
    threshold: float | None = None


@dataclass(frozen=True)
class Agreement:
    """Of two models on the same rows. ``trained`` and ``packaged`` are the primary metric (errors of a regression in
    standard deviations of the target), ``p999`` and ``maximum`` are of the differences between the answers."""

    label_agreement: float
    trained: float
    packaged: float
    p999: float
    maximum: float


def decide(p: Array, positive: int, threshold: float | None) -> Array:
    """[n] class indexes for [n, classes] probabilities: the most probable class, or in binary tasks with a threshold
    the positive class from there on."""
    if threshold is None or p.shape[1] != 2:
        labels: Array = p.argmax(axis=1)
        return labels
    return np.where(p[:, positive].astype(np.float64) >= threshold, positive, 1 - positive)


def classifiers(y: Array, trained: Array, packaged: Array, labels: Array, reading: Reading) -> Agreement:
    """``trained`` and ``packaged`` are [n, classes] probabilities, ``labels`` [n] class indexes as the package says."""
    delta = np.abs(trained - packaged).max(axis=1)
    own = decide(trained, reading.positive, reading.threshold)
    if reading.threshold is not None:
        labels = decide(packaged, reading.positive, reading.threshold)
    return Agreement(
        float((own == labels).mean()),
        score(y, own, trained, reading),
        score(y, labels, packaged.astype(np.float64), reading),
        float(np.quantile(delta, 0.999)),
        float(delta.max()),
    )


def regressors(y: Array, trained: Array, packaged: Array, metric: str) -> Agreement:
    """Values [n]."""
    scale = float(y.std()) or 1.0
    delta = np.abs(trained - packaged) / scale
    function = {
        "mae": metrics.mean_absolute_error,
        "rmse": metrics.root_mean_squared_error,
        "r2": metrics.r2_score,
    }[metric]
    unit = 1.0 if metric == "r2" else scale
    return Agreement(
        float((delta <= _VALUE_TOLERANCE).mean()),
        float(function(y, trained)) / unit,
        float(function(y, packaged)) / unit,
        float(np.quantile(delta, 0.999)),
        float(delta.max()),
    )


def score(y: Array, labels: Array, p: Array, reading: Reading) -> float:
    """The primary metric. Binary metrics are about the positive class; with more classes, macro averages."""
    k, metric = p.shape[1], reading.metric
    every = list(range(k))
    average: dict[str, Any] = {"pos_label": reading.positive} if k == 2 else {"average": "macro", "labels": every}
    if metric == "accuracy":
        return float(metrics.accuracy_score(y, labels))
    if metric in ("precision", "recall", "f1"):
        function = {"precision": metrics.precision_score, "recall": metrics.recall_score, "f1": metrics.f1_score}
        return float(function[metric](y, labels, zero_division=0.0, **average))
    if metric == "log_loss":
        p = np.clip(p, 1e-15, 1)
        return float(metrics.log_loss(y, p / p.sum(axis=1, keepdims=True), labels=every))
    if metric == "brier":
        return float(((p - np.eye(k)[y]) ** 2).sum(axis=1).mean() / (2 if k == 2 else 1))
    if len(np.unique(y)) < k:
        return 0.0  # undefined; the labels decide alone
    if k == 2:
        return float(metrics.roc_auc_score(y == reading.positive, p[:, reading.positive]))
    return float(metrics.roc_auc_score(y, p / p.sum(axis=1, keepdims=True), multi_class="ovr", labels=every))
