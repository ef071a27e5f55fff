"""Does the package answer as the trained model does?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

Array = NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """Of two models on the same rows."""

    label_agreement: float
    trained: float
    packaged: float
    p999: float
    maximum: float


def classifiers(y: Array, trained: Array, packaged: Array, labels: Array, metric: str, positive: int) -> Agreement:
    """``trained`` and ``packaged`` [n, classes] probabilities, ``labels`` [n] as the package says them."""
    delta = np.abs(trained - packaged).max(axis=1)
    own = trained.argmax(axis=1)
    return Agreement(
        float((own == labels).mean()),
        _score(y, own, trained, metric, positive),
        _score(y, labels, packaged, metric, positive),
        float(np.quantile(delta, 0.999)),
        float(delta.max()),
    )


def regressors(y: Array, trained: Array, packaged: Array, metric: str) -> Agreement:
    """Values [n]; differences in units of the target's standard deviation."""
    scale = float(y.std()) or 1.0
    delta = np.abs(trained - packaged) / scale
    score = {
        "mae": metrics.mean_absolute_error,
        "rmse": metrics.root_mean_squared_error,
        "r2": metrics.r2_score,
    }[metric]
    unit = 1.0 if metric == "r2" else scale
    return Agreement(
        float((delta <= 1e-3).mean()),
        float(score(y, trained)) / unit,
        float(score(y, packaged)) / unit,
        float(np.quantile(delta, 0.999)),
        float(delta.max()),
    )


def _score(y: Array, labels: Array, p: Array, metric: str, positive: int) -> float:
    k = p.shape[1]
    every = list(range(k))
    average: dict[str, Any] = {"pos_label": positive} if k == 2 else {"average": "macro", "labels": every}
    if metric == "accuracy":
        return float(metrics.accuracy_score(y, labels))
    if metric in ("precision", "recall", "f1"):
        function = {"precision": metrics.precision_score, "recall": metrics.recall_score, "f1": metrics.f1_score}
        return float(function[metric](y, labels, zero_division=0.0, **average))
    if metric == "log_loss":
        return float(metrics.log_loss(y, np.clip(p, 1e-15, 1), labels=every))
    if metric == "brier":
        return float(((p - np.eye(k)[y]) ** 2).sum(axis=1).mean() / (2 if k == 2 else 1))
    if len(np.unique(y)) < k:
        return 0.0
    if k == 2:
        return float(metrics.roc_auc_score(y == positive, p[:, positive]))
    return float(metrics.roc_auc_score(y, p, multi_class="ovr", labels=every))
