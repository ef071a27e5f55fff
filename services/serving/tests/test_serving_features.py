"""Rows into matrices: any JSON value gives a cell or a named refusal, alike at once and one by one."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_serving.domain import features
from tidemill_serving.domain.features import Layout, matrices

LAYOUT = Layout(("a", "b"), ("c", "d"), {"c": frozenset({"x", "y"}), "d": frozenset({"z"})})
OPEN = Layout(("a", "b"), ("c", "d"), None)
GOOD = {"a": 1, "b": None, "c": "x", "d": None}
ERRORS = {"missing_feature", "wrong_type", "not_finite", "unknown_category"}

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300, max_value=10**400),
    st.floats(),
    st.sampled_from(["x", "y", "z", "", "x\x00", "\ud800", "é"]),
    st.text(st.characters(exclude_categories=[]), max_size=3),
)
anything = st.recursive(plain, lambda v: st.lists(v, max_size=2) | st.dictionaries(st.text(max_size=2), v, max_size=2))
likely = st.fixed_dictionaries(
    {
        "a": st.floats(-10, 10) | st.none(),
        "b": st.integers(-5, 5) | st.booleans(),
        "c": st.sampled_from(["x", "y", "", None]),
        "d": st.sampled_from(["z", None]),
    }
)
any_row = st.dictionaries(st.sampled_from(["a", "b", "c", "d", "other"]), anything, max_size=5)
mended_row = st.builds(lambda good, bad: good | bad, likely, any_row)


@given(st.lists(likely | mended_row | any_row, max_size=6), st.sampled_from([LAYOUT, OPEN]))
def test_any_json_value_is_a_cell_or_a_refusal(rows: list[dict[str, Any]], layout: Layout) -> None:
    found, refusals = matrices(rows, layout)
    assert len(refusals) == len(rows)
    assert len(found) == refusals.count(None)
    assert found.numeric.shape == (len(found), 2)
    assert found.categorical.shape == (len(found), 2)
    assert found.numeric.dtype == np.float32
    assert not np.isinf(found.numeric).any()
    for cell in found.categorical.reshape(-1):
        assert isinstance(cell, str)
        cell.encode()
    assert {r.error for r in refusals if r} <= ERRORS


@given(st.lists(likely | mended_row | any_row, max_size=6), st.sampled_from([LAYOUT, OPEN]))
def test_at_once_and_one_by_one_agree(rows: list[dict[str, Any]], layout: Layout) -> None:
    found, refusals = matrices(rows, layout)
    slow, slow_refusals = features._one_by_one(rows, layout)
    assert refusals == slow_refusals
    np.testing.assert_array_equal(found.numeric, slow.numeric)
    assert found.categorical.tolist() == slow.categorical.tolist()


@given(st.lists(likely, min_size=1, max_size=6))
def test_good_rows_keep_their_values(rows: list[dict[str, Any]]) -> None:
    found, refusals = matrices(rows, LAYOUT)
    assert not any(refusals)
    for row, numbers, strings in zip(rows, found.numeric, found.categorical, strict=True):
        expected = [math.nan if row[c] is None else np.float32(row[c]) for c in "ab"]
        np.testing.assert_array_equal(numbers, expected)
        assert list(strings) == [row[c] or "" for c in "cd"]


@pytest.mark.parametrize(
    ("change", "error", "field"),
    [
        ({"a": math.nan}, "not_finite", "a"),
        ({"a": math.inf}, "not_finite", "a"),
        ({"a": 1e39}, "not_finite", "a"),
        ({"a": 10**400}, "not_finite", "a"),
        ({"a": "1"}, "wrong_type", "a"),
        ({"a": [1]}, "wrong_type", "a"),
        ({"c": 1}, "wrong_type", "c"),
        ({"c": {}}, "wrong_type", "c"),
        ({"c": "w"}, "unknown_category", "c"),
        ({"c": "x\x00"}, "unknown_category", "c"),
    ],
)
def test_a_bad_row_is_refused_by_name_and_alone(change: dict[str, Any], error: str, field: str) -> None:
    found, refusals = matrices([GOOD, GOOD | change, GOOD], LAYOUT)
    assert len(found) == 2
    assert refusals[0] is refusals[2] is None
    assert refusals[1] is not None
    assert (refusals[1].error, refusals[1].field) == (error, field)


def test_a_missing_column_is_refused_and_a_surplus_one_ignored() -> None:
    _, refusals = matrices([{"a": 1, "b": 2, "c": "x"}, GOOD | {"surplus": [1]}], LAYOUT)
    assert refusals[0] is not None
    assert (refusals[0].error, refusals[0].field) == ("missing_feature", "d")
    assert refusals[1] is None


@pytest.mark.parametrize("layout", [Layout((), ("c",), None), Layout(("a",), (), None), Layout((), (), None)])
def test_models_of_one_kind_of_column(layout: Layout) -> None:
    found, refusals = matrices([GOOD, GOOD], layout)
    assert refusals == [None, None]
    assert found.numeric.shape == (2, len(layout.numeric))
    assert found.categorical.shape == (2, len(layout.categorical))
