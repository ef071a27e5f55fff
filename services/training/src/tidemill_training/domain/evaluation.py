"""Scores, calibration, confusion."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as m

Array = NDArray[Any]
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "mae", "rmse"})


def classification_scores(y: Array, p: Array, positive: int) -> dict[str, float]:
    """``y`` [n] class indexes, ``p`` [n, classes] probabilities. Binary scores are about the class ``positive``;
    with more classes precision, recall and F1 are macro averages and ROC AUC is one against the rest."""
    k = p.shape[1]
    predicted = p.argmax(axis=1)
    labels = list(range(k))
    average: dict[str, Any] = {"pos_label": positive} if k == 2 else {"average": "macro", "labels": labels}
    scores = {
        "accuracy": m.accuracy_score(y, predicted),
        "precision": m.precision_score(y, predicted, zero_division=0.0, **average),
        "recall": m.recall_score(y, predicted, zero_division=0.0, **average),
        "f1": m.f1_score(y, predicted, zero_division=0.0, **average),
        "log_loss": m.log_loss(y, np.clip(p, 1e-15, 1), labels=labels),
        "brier": float(((p - np.eye(k)[y]) ** 2).sum(axis=1).mean() / (2 if k == 2 else 1)),
    }
    if len(np.unique(y)) == k:  # the area is undefined when a class is absent
        scores["roc_auc"] = (
            m.roc_auc_score(y == positive, p[:, positive])
            if k == 2
            else m.roc_auc_score(y, p, multi_class="ovr", labels=labels)
        )
    return {name: float(value) for name, value in scores.items()}


def regression_scores(y: Array, predicted: Array) -> dict[str, float]:
    """MAE and RMSE in the target's unit, R² without unit."""
    return {
        "mae": float(m.mean_absolute_error(y, predicted)),
        "rmse": float(m.root_mean_squared_error(y, predicted)),
        "r2": float(m.r2_score(y, predicted)) if len(y) > 1 else 0.0,
    }


def better(metric: str, score: float) -> float:
    """The score turned so that more is better."""
    return -score if metric in LOWER_IS_BETTER else score


def calibration(y: Array, p: Array, positive: int, bins: int = 10) -> list[tuple[float, float, int]]:
    """Reliability diagram of the positive class: mean predicted, observed frequency, rows, of each filled bin."""
    scores = p[:, positive]
    which = np.clip((scores * bins).astype(int), 0, bins - 1)
    hit = y == positive
    return [
        (float(scores[which == b].mean()), float(hit[which == b].mean()), int((which == b).sum()))
        for b in range(bins)
        if (which == b).any()
    ]


def confusion(y: Array, p: Array) -> list[list[int]]:
    """Rows: true class; columns: predicted class."""
    matrix: list[list[int]] = m.confusion_matrix(y, p.argmax(axis=1), labels=list(range(p.shape[1]))).tolist()
    return matrix
