"""Association of a column with the target."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_ingestion.domain.association import correlation_ratio, cramers_v, pearson


def test_perfect_and_none() -> None:
    x = np.arange(10.0)
    assert pearson(x, -2 * x) == pytest.approx(1)
    assert pearson(x, np.ones(10)) is None
    groups = np.repeat([0, 1], 5)
    assert correlation_ratio(groups, groups.astype(float)) == pytest.approx(1)
    assert correlation_ratio(groups, np.tile([1.0, -1, 1, -1, 0], 2)) == pytest.approx(0)
    assert cramers_v(np.tile([0, 1], 500), np.tile([1, 0], 500)) == pytest.approx(1, abs=1e-3)
    assert cramers_v(np.zeros(10, np.int64), np.tile([0, 1], 5)) is None


def test_missing_values_are_left_out() -> None:
    x = np.array([1.0, 2, np.nan, 4])
    assert pearson(x, np.array([2.0, 4, 100, 8])) == pytest.approx(1)
    assert correlation_ratio(np.array([0, 0, 1, 1, -1]), np.array([1.0, 1, 2, 2, 50])) == pytest.approx(1)


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 3)), max_size=60))
def test_between_zero_and_one(pairs: list[tuple[int, int]]) -> None:
    x, y = (np.array([p[i] for p in pairs], np.int64) for i in (0, 1))
    for value in (cramers_v(x, y), correlation_ratio(x, y.astype(float)), pearson(x.astype(float), y.astype(float))):
        assert value is None or 0 <= value <= 1
