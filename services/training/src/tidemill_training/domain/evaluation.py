"""Scores, calibration, confusion. Everything is judged on answers to rows the model was not fitted on."""

from collections.abc import Callable, Mapping
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
    found = {name: metric(answers) for name, metric in _metrics(answers).items()}
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def score(metric: str, answers: Answers) -> float:
    """One metric turned so that more is better; -inf where it is undefined."""
    measure = _metrics(answers).get(metric)
    value = float("nan") if measure is None else float(measure(answers))
    return utility(metric, {metric: value} if np.isfinite(value) else {})


def _metrics(answers: Answers) -> Mapping[str, Callable[[Answers], float]]:
    return _OF_CLASSES if answers.classifies else _OF_VALUES


def _by_class(measure: Callable[..., float]) -> Callable[[Answers], float]:
    """Of the positive class; with more than two classes the macro average."""

    def measured(answers: Answers) -> float:
        k = answers.answer.shape[1]
        average: dict[str, Any] = (
            {"pos_label": answers.positive} if k == 2 else {"average": "macro", "labels": list(range(k))}
        )
        return measure(answers.y, answers.labels, zero_division=0.0, **average)

    return measured


def _log_loss(answers: Answers) -> float:
    y, p = answers.y, answers.answer
    return float(-np.log(np.clip(p[np.arange(len(y)), y], 1e-15, 1.0)).mean())


def _brier(answers: Answers) -> float:
    """Mean squared error of the positive class's probability; with more classes summed over them (Brier 1950)."""
    y, p = answers.y, answers.answer
    k = p.shape[1]
    return float(((p - np.eye(k)[y]) ** 2).sum(axis=1).mean() / (2 if k == 2 else 1))


def _roc_auc(answers: Answers) -> float:
    """With more than two classes the mean of each class against the rest; NaN when a side is absent."""
    y, p = answers.y, answers.answer
    every = range(p.shape[1])
    sides = [answers.positive] if p.shape[1] == 2 else [c for c in every if 0 < (y == c).sum() < len(y)]
    if not sides or not 0 < (y == sides[0]).sum() < len(y):
        return float("nan")
    return float(np.mean([m.roc_auc_score(y == c, p[:, c]) for c in sides]))


_OF_CLASSES: Mapping[str, Callable[[Answers], float]] = {
    "accuracy": lambda a: m.accuracy_score(a.y, a.labels),
    "precision": _by_class(m.precision_score),
    "recall": _by_class(m.recall_score),
    "f1": _by_class(m.f1_score),
    "log_loss": _log_loss,
    "brier": _brier,
    "roc_auc": _roc_auc,
}
_OF_VALUES: Mapping[str, Callable[[Answers], float]] = {
    "mae": lambda a: m.mean_absolute_error(a.y, a.answer),
    "rmse": lambda a: m.root_mean_squared_error(a.y, a.answer),
    "r2": lambda a: m.r2_score(a.y, a.answer) if len(a.y) > 1 else float("nan"),
}
"""MAE and RMSE in the target's unit, R² without unit."""


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
