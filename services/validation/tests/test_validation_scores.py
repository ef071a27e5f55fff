"""Metrics against scikit-learn, and the paired bootstrap's properties."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as m

from tidemill_validation.domain.answers import Answers, aligned
from tidemill_validation.domain.bootstrap import compare
from tidemill_validation.domain.scores import CLASSIFICATION, LOWER_IS_BETTER, REGRESSION, score, weighted

SEEDS = st.integers(0, 2**32 - 1)


def classified(seed: int, n: int, k: int, sharpness: float = 1.0) -> tuple[Any, Answers]:
    """Targets and answers that have something to do with each other; scores are rounded, so that there are ties."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    y[:k] = np.arange(k)
    logits = sharpness * np.eye(k)[y] + rng.normal(size=(n, k))
    p = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 2) + 0.01
    p = p / p.sum(axis=1, keepdims=True)
    return y, Answers(p.argmax(axis=1), p)


def expected(metric: str, y: Any, answers: Answers, positive: int, w: Any) -> float:
    labels, p = answers.labels, answers.probabilities
    assert p is not None
    k = p.shape[1]
    if metric == "accuracy":
        return float(m.accuracy_score(y, labels, sample_weight=w))
    if metric in ("precision", "recall", "f1"):
        how: dict[str, Any] = {"pos_label": positive} if k == 2 else {"average": "macro", "labels": list(range(k))}
        function = {"precision": m.precision_score, "recall": m.recall_score, "f1": m.f1_score}[metric]
        return float(function(y, labels, sample_weight=w, zero_division=0.0, **how))
    if metric == "log_loss":
        return float(m.log_loss(y, p, sample_weight=w, labels=list(range(k))))
    if metric == "brier":
        return float(m.brier_score_loss(y, p, sample_weight=w, labels=list(range(k)), scale_by_half=k == 2))
    if k == 2:
        return float(m.roc_auc_score(y == positive, p[:, positive], sample_weight=w))
    areas = [m.roc_auc_score(y == c, p[:, c], sample_weight=w) for c in range(k)]
    return float(np.mean(areas))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(8, 120), st.integers(2, 4), st.sampled_from(CLASSIFICATION))
def test_classification_metrics_are_scikit_learns(seed: int, n: int, k: int, metric: str) -> None:
    y, answers = classified(seed, n, k)
    w = np.random.default_rng(seed).integers(1, 5, n)
    found = weighted(metric, y, answers, 1, np.stack([np.ones(n, int), w]))
    assert found[0] == pytest.approx(expected(metric, y, answers, 1, np.ones(n)), abs=1e-9)
    assert found[1] == pytest.approx(expected(metric, y, answers, 1, w), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(3, 120), st.sampled_from(REGRESSION))
def test_regression_metrics_are_scikit_learns(seed: int, n: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(50, 3, n)
    values, w = y + rng.normal(size=n), rng.integers(1, 5, n)
    function = {"mae": m.mean_absolute_error, "rmse": m.root_mean_squared_error, "r2": m.r2_score}[metric]
    found = weighted(metric, y, Answers(values=values), 0, w[None])
    assert found[0] == pytest.approx(function(y, values, sample_weight=w), abs=1e-9)


def test_the_area_under_the_curve_of_one_class_is_undefined() -> None:
    _, answers = classified(0, 10, 2)
    assert np.isnan(score("roc_auc", np.zeros(10, int), answers, 1))
    assert np.isnan(score("r2", np.full(5, 2.0), Answers(values=np.arange(5.0)), 0))


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(20, 100), st.sampled_from(CLASSIFICATION))
def test_a_model_differs_from_itself_by_nothing(seed: int, n: int, metric: str) -> None:
    y, answers = classified(seed, n, 2)
    d = compare(metric, y, answers, answers, 1, resamples=1_000, confidence=0.95, seed=seed)
    assert (d.difference, d.low, d.high) == (0, 0, 0)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(30, 100), st.sampled_from(CLASSIFICATION))
def test_changing_sides_changes_the_sign(seed: int, n: int, metric: str) -> None:
    y, one = classified(seed, n, 2, sharpness=0.5)
    _, other = classified(seed, n, 2, sharpness=2.0)
    there = compare(metric, y, one, other, 1, resamples=1_000, confidence=0.9, seed=seed)
    back = compare(metric, y, other, one, 1, resamples=1_000, confidence=0.9, seed=seed)
    assert there.difference == pytest.approx(-back.difference)
    assert there.low == pytest.approx(-back.high)
    assert there.low <= there.high


def test_few_rows_show_a_large_difference_and_no_small_one() -> None:
    y, good = classified(3, 60, 2, sharpness=5.0)
    assert good.labels is not None
    wrong = Answers(1 - good.labels, 1 - good.numbers)
    large = compare("f1", y, wrong, good, 1, resamples=1_000, confidence=0.95, seed=0)
    assert large.low > 0.5
    labels = good.labels.copy()
    labels[:1] = 1 - labels[:1]
    small = compare("accuracy", y, Answers(labels, good.numbers), good, 1, resamples=1_000, confidence=0.95, seed=0)
    assert small.low <= 0 <= small.high


def test_the_interval_covers_the_true_difference() -> None:
    """Two coins, right in 80 % and 70 % of rows: the 90 % interval holds 0.1 in about 90 % of repetitions."""
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        y = np.zeros(150, int)
        a, b = (rng.random(150) > share for share in (0.7, 0.8))
        one, other = (Answers(x.astype(int), np.tile([0.5, 0.5], (150, 1))) for x in (a, b))
        d = compare("accuracy", y, one, other, 1, resamples=1_000, confidence=0.9, seed=seed)
        covered += d.low <= 0.1 <= d.high
    assert 165 <= covered <= 195


def test_lower_losses_are_better() -> None:
    y = np.arange(20.0)
    for metric in sorted(LOWER_IS_BETTER & set(REGRESSION)):
        d = compare(metric, y, Answers(values=y + 2), Answers(values=y + 1), 0, resamples=1_000, confidence=0.9, seed=0)
        assert d.difference == pytest.approx(1.0)
        assert d.low > 0


def test_answers_of_a_model_with_fewer_classes_are_brought_to_the_classes_of_the_rows() -> None:
    old = Answers(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    new = aligned(old, ("a", "c"), ("a", "b", "c"))
    np.testing.assert_array_equal(new.labels, [0, 2])
    np.testing.assert_array_equal(new.probabilities, [[0.9, 0, 0.1], [0.2, 0, 0.8]])
    assert aligned(old, ("a", "b"), ("a", "b")) is old
