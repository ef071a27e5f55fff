"""Scores against scikit-learn's, and their standard errors against the bootstrap."""

import numpy as np
import pytest

from tidemill_monitoring.domain.score import Outcome, Score, reported, score

metrics = pytest.importorskip("sklearn.metrics")


def binary(rows: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.uniform(size=rows) < 0.3).astype(int)
    probability = np.clip(0.3 * truth + 0.4 * rng.uniform(size=rows) + 0.1, 0, 1).round(2)
    return truth, probability, (probability > 0.45).astype(int)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "precision", "recall", "roc_auc", "log_loss", "brier"])
def test_binary_metrics_are_scikit_learns(metric: str) -> None:
    truth, probability, predicted = binary()
    outcomes = [Outcome(t, p, (1 - q, q)) for t, q, p in zip(truth, probability, predicted, strict=True)]
    expected = {
        "accuracy": lambda: metrics.accuracy_score(truth, predicted),
        "f1": lambda: metrics.f1_score(truth, predicted),
        "precision": lambda: metrics.precision_score(truth, predicted),
        "recall": lambda: metrics.recall_score(truth, predicted),
        "roc_auc": lambda: metrics.roc_auc_score(truth, probability),
        "log_loss": lambda: metrics.log_loss(truth, probability),
        "brier": lambda: metrics.brier_score_loss(truth, probability),
    }[metric]()
    found = score(metric, outcomes, classes=2, positive=1)
    assert found is not None
    assert found.value == pytest.approx(expected, abs=1e-9)
    rng = np.random.default_rng(1)
    samples = [[outcomes[i] for i in rng.integers(0, 500, 500)] for _ in range(100)]
    spread = np.std([s.value for sample in samples if (s := score(metric, sample, classes=2, positive=1))])
    assert 0.6 * spread < found.error < 2.2 * spread


@pytest.mark.parametrize("metric", ["f1", "precision", "recall", "roc_auc", "log_loss"])
def test_metrics_of_many_classes_are_macro_averages(metric: str) -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 3, 400)
    logits = rng.normal(size=(400, 3)) + 1.5 * np.eye(3)[truth]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = probability.argmax(axis=1)
    outcomes = [Outcome(t, p, tuple(q)) for t, p, q in zip(truth, predicted, probability.tolist(), strict=True)]
    expected = {
        "f1": lambda: metrics.f1_score(truth, predicted, average="macro"),
        "precision": lambda: metrics.precision_score(truth, predicted, average="macro"),
        "recall": lambda: metrics.recall_score(truth, predicted, average="macro"),
        "roc_auc": lambda: metrics.roc_auc_score(truth, probability, multi_class="ovr"),
        "log_loss": lambda: metrics.log_loss(truth, probability),
    }[metric]()
    found = score(metric, outcomes, classes=3, positive=2)
    assert found is not None
    assert found.value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", ["mae", "rmse", "r2"])
def test_regression_metrics_are_scikit_learns(metric: str) -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=300)
    predicted = truth + 0.5 * rng.normal(size=300)
    found = score(metric, [Outcome(t, p) for t, p in zip(truth, predicted, strict=True)], classes=0, positive=0)
    expected = {
        "mae": metrics.mean_absolute_error(truth, predicted),
        "rmse": metrics.root_mean_squared_error(truth, predicted),
        "r2": metrics.r2_score(truth, predicted),
    }[metric]
    assert found is not None
    assert found.value == pytest.approx(expected, abs=1e-9)
    assert found.error > 0


def test_an_undefined_score_is_none() -> None:
    negatives = [Outcome(0.0, 0.0, (0.9, 0.1))] * 50
    assert score("f1", negatives, classes=2, positive=1) is None
    assert score("roc_auc", negatives, classes=2, positive=1) is None
    assert score("log_loss", [Outcome(0.0, 0.0)] * 5, classes=2, positive=1) is None
    assert score("f1", [], classes=2, positive=1) is None


def test_a_handful_of_rows_proves_little() -> None:
    missed = [Outcome(1.0, 0.0)] * 3 + [Outcome(0.0, 0.0)] * 400
    found = score("recall", missed, classes=2, positive=1)
    assert found is not None
    assert found.value == 0
    assert found.better_bound("recall", 0.01) > 0.4


def test_bounds_lie_on_the_right_side() -> None:
    found = Score(0.5, 0.1, 100)
    assert found.worse_bound("f1", 0.01) < 0.5 < found.better_bound("f1", 0.01)
    assert found.worse_bound("mae", 0.01) > 0.5 > found.better_bound("mae", 0.01)
    assert reported("f1", 1.0, 25).worse_bound("f1", 0.01) < 0.92
