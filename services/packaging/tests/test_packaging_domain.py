"""Properties of the pure parts."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tidemill_packaging.domain import golden, parity, reference, rows

FLOATS = st.floats(-1e6, 1e6)


@given(arrays(np.float64, st.integers(1, 200), elements=st.one_of(FLOATS, st.just(np.nan))))
def test_every_row_of_a_numeric_column_is_counted_once(values: np.ndarray) -> None:
    column = reference.numeric_column("x", values)
    assert sum(column.counts) + column.missing == len(values) == column.rows
    assert list(column.edges) == sorted(set(column.edges))
    if column.counts:
        known = values[np.isfinite(values)]
        assert column.counts[0] == (known < column.edges[0]).sum()
        assert column.counts[-1] == (known >= column.edges[-1]).sum()


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=50))
def test_every_row_of_a_categorical_column_is_counted_once(values: list[str]) -> None:
    column = reference.categorical_column("x", np.array(values, object))
    assert sum(column.categories.values()) + column.missing == len(values)
    assert "" not in column.categories


def test_only_the_most_frequent_categories_are_kept() -> None:
    values = [f"c{i:04d}" for i in range(reference.CATEGORIES + 10)] + ["c0205"]
    column = reference.categorical_column("x", np.array(values, object))
    assert len(column.categories) == reference.CATEGORIES
    assert column.categories["c0205"] == 2


@given(st.integers(1, 100), st.integers(0, 100), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_golden_rows_are_few_distinct_and_usual(real: int, drawn: int, count: int, seed: int) -> None:
    difference = np.random.default_rng(seed).exponential(1e-6, real + drawn)
    difference[:: max(1, (real + drawn) // 3)] = 0.5
    chosen = golden.choose(difference, real, count)
    assert 1 <= len(chosen) <= count or (count == 1 and len(chosen) <= 2)
    assert len(set(chosen)) == len(chosen)
    if real + drawn > 8:
        assert golden.tolerance(difference[chosen]) < 0.5


@given(st.integers(1, 50), st.integers(0, 300), st.integers(0, 10))
def test_enlarged_rows_keep_the_given_ones_first(n: int, more: int, seed: int) -> None:
    k = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    m = np.array([[f"c{i}"] for i in range(n)], object)
    bigger_k, bigger_m, source = rows.enlarge(k, m, rows=n + more, seed=seed)
    assert len(bigger_k) == len(bigger_m) == len(source) >= n + max(more, 2)
    np.testing.assert_array_equal(bigger_k[:n], k)
    np.testing.assert_array_equal(bigger_m[:n], m)
    assert np.isnan(bigger_k[-1]).all()
    assert bigger_m[-1, 0] == ""
    assert bigger_m[-2, 0] == rows.UNKNOWN
    assert k[0, 0] == 0.0  # the given rows themselves are not touched


@settings(max_examples=20)
@given(arrays(np.float64, st.tuples(st.integers(1, 40), st.just(3)), elements=st.floats(0.01, 1)))
def test_a_model_agrees_with_itself(p: np.ndarray) -> None:
    p = p / p.sum(axis=1, keepdims=True)
    y = np.arange(len(p)) % 3
    for metric in ("accuracy", "f1", "log_loss", "roc_auc", "brier"):
        found = parity.classifiers(y, p, p, p.argmax(axis=1), parity.Reading(metric, 0))
        assert (found.label_agreement, found.maximum) == (1.0, 0.0)
        assert found.trained == found.packaged


def test_differences_of_values_are_relative_to_large_ones() -> None:
    found = golden.differences(np.array([0.5, 1000.0]), np.array([0.6, 1001.0]))
    np.testing.assert_allclose(found, [0.1, 0.001])


def test_another_sample_is_counted_in_the_same_bins() -> None:
    rng = np.random.default_rng(0)
    column = reference.numeric_column("x", rng.normal(size=1_000))
    other = reference.numeric_column("x", rng.normal(1, 1, size=500), column)
    assert other.edges == column.edges
    assert sum(other.counts) == 500
    assert column.outside is None and reference.numeric_column("x", np.array([-9.0, 0.0, 9.0]), column).outside == 2
    city = reference.categorical_column("c", np.array(["a", "b", "a"], object))
    assert reference.categorical_column("c", np.array(["b", "z", ""], object), city).categories == {"a": 0, "b": 1}


def test_the_longest_run_is_counted() -> None:
    assert reference.numeric_column("x", np.array([1.0, 2.0, 2.0, 2.0, 1.0, 1.0])).longest_run == 3
    assert reference.numeric_column("x", np.array([5.0, 5.0])).longest_run == 2
