"""Scores, calibration, confusion. Everything is judged on answers to rows the model was not fitted on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as m

Array = NDArray[Any]
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "mae", "rmse"})


@dataclass(frozen=True)
class Answers:
    """Truth and answers for the same rows. Classification: ``y`` [n] class indexes, ``answer`` [n, classes]
    probabilities; regression: ``y`` [n] and ``answer`` [n] in the target's unit."""

    y: Array
    answer: Array
    positive: int = 0
    threshold: float | None = None
    """Binary only: the positive class from this probability on; None takes the most probable class."""

    @property
    def classifies(self) -> bool:
        """Whether the answers are probabilities."""
        return self.answer.ndim == 2

    @property
    def labels(self) -> Array:
        """[n] class indexes answered."""
        if self.threshold is None or self.answer.shape[1] != 2:
            return np.asarray(self.answer.argmax(axis=1))
        return np.where(self.answer[:, self.positive] >= self.threshold, self.positive, 1 - self.positive)


def scores(answers: Answers) -> dict[str, float]:
    """Every metric that is defined for these answers, finite."""
    found = classification_scores(answers) if answers.classifies else regression_scores(answers)
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def classification_scores(answers: Answers) -> dict[str, float]:
    """Binary scores are about the positive class; with more classes precision, recall and F1 are macro averages and
    ROC AUC is the mean of each class against the rest. Brier is the mean squared error of the positive class's
    probability, with more classes summed over them (Brier 1950)."""
    y, p, positive = answers.y, answers.answer, answers.positive
    k = p.shape[1]
    every = list(range(k))
    average: dict[str, Any] = {"pos_label": positive} if k == 2 else {"average": "macro", "labels": every}
    found = {
        "accuracy": m.accuracy_score(y, answers.labels),
        "precision": m.precision_score(y, answers.labels, zero_division=0.0, **average),
        "recall": m.recall_score(y, answers.labels, zero_division=0.0, **average),
        "f1": m.f1_score(y, answers.labels, zero_division=0.0, **average),
        "log_loss": _log_loss(y, p),
        "brier": float(((p - np.eye(k)[y]) ** 2).sum(axis=1).mean() / (2 if k == 2 else 1)),
    }
    sides = [positive] if k == 2 else [c for c in every if 0 < (y == c).sum() < len(y)]
    if sides and 0 < (y == sides[0]).sum() < len(y):  # the area is undefined when a side is absent
        found["roc_auc"] = float(np.mean([m.roc_auc_score(y == c, p[:, c]) for c in sides]))
    return found


def _log_loss(y: Array, p: Array) -> float:
    return float(-np.log(np.clip(p[np.arange(len(y)), y], 1e-15, 1.0)).mean())


def regression_scores(answers: Answers) -> dict[str, float]:
    """MAE and RMSE in the target's unit, R² without unit."""
    y, predicted = answers.y, answers.answer
    return {
        "mae": float(m.mean_absolute_error(y, predicted)),
        "rmse": float(m.root_mean_squared_error(y, predicted)),
        "r2": float(m.r2_score(y, predicted)) if len(y) > 1 else float("nan"),
    }


def utility(metric: str, found: dict[str, float]) -> float:
    """The primary metric turned so that more is better; -inf where it is undefined."""
    if metric not in found:
        return float("-inf")
    return -found[metric] if metric in LOWER_IS_BETTER else found[metric]


def calibration(answers: Answers, bins: int = 10) -> list[tuple[float, float, int]]:
    """Reliability diagram: mean predicted, observed frequency and rows of each filled bin; of the positive class, or
    with more than two classes of the class answered."""
    if not answers.classifies:
        return []
    binary = answers.answer.shape[1] == 2
    score = answers.answer[:, answers.positive] if binary else answers.answer.max(axis=1)
    hit = answers.y == (answers.positive if binary else answers.answer.argmax(axis=1))
    which = np.clip((score * bins).astype(int), 0, bins - 1)
    return [
        (float(score[which == b].mean()), float(hit[which == b].mean()), int((which == b).sum()))
        for b in range(bins)
        if (which == b).any()
    ]


def confusion(answers: Answers) -> list[list[int]]:
    """Rows: true class; columns: answered class. Empty for regression."""
    if not answers.classifies:
        return []
    every = list(range(answers.answer.shape[1]))
    matrix: list[list[int]] = m.confusion_matrix(answers.y, answers.labels, labels=every).tolist()
    return matrix
