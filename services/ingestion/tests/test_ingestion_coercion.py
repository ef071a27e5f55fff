"""Cells to numbers, categories, times and classes."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_ingestion.domain.coercion import numbers, texts
from tidemill_ingestion.domain.job import Label, Policy, Refused
from tidemill_ingestion.domain.parts import moment
from tidemill_ingestion.domain.target import classification_target, regression_target
from tidemill_ingestion.domain.timestamps import MISSING, micros, timestamps


def test_text_to_numbers_with_counts() -> None:
    cells = ["1", " 2.5 ", "+3", ".5", "-1e3", "", "NA", "abc", "1_000", "true", "inf", "nan", "1e400", None]
    got = numbers(pa.array(cells))
    nan = np.nan
    np.testing.assert_array_equal(got.values, [1, 2.5, 3, 0.5, -1000, nan, nan, nan, nan, 1, nan, nan, nan, nan])
    assert np.flatnonzero(got.not_finite).tolist() == [10, 11, 12]
    assert (got.present, got.unparsable) == (11, 2)
    assert got.changes == {"trimmed": 1, "missing_marker": 1, "unparsable_number": 2, "boolean_to_number": 1}


def test_text_of_plain_numbers_takes_the_fast_path_to_the_same_values() -> None:
    got = numbers(pa.array(["1", "nan", None, "-inf", "3e38", "3.5e38"]))
    assert np.flatnonzero(got.not_finite).tolist() == [1, 3, 5]
    np.testing.assert_array_equal(got.values, [1, np.nan, np.nan, np.nan, 3e38, np.nan])


def test_typed_numbers() -> None:
    got = numbers(pa.array([1.0, float("nan"), None, float("inf")]))
    np.testing.assert_array_equal(got.values, [1, np.nan, np.nan, np.nan])
    assert got.not_finite.tolist() == [False, False, False, True]
    assert got.changes == {"nan_to_missing": 1}
    assert numbers(pa.array([True, None, False])).changes == {"boolean_to_number": 2}
    assert numbers(pa.nulls(3)).present == 0


@given(st.lists(st.one_of(st.none(), st.floats(-1e30, 1e30))))
def test_numbers_survive_being_written_as_text(values: list[float | None]) -> None:
    typed = numbers(pa.array(values, pa.float64()))
    written = numbers(pa.array([None if v is None else repr(v) for v in values], pa.string()))
    np.testing.assert_array_equal(typed.values, written.values)
    assert not written.not_finite.any()


def test_categories_are_the_same_from_any_type() -> None:
    assert texts(pa.array([1, None, 2])).values.to_pylist() == ["1", None, "2"]
    assert texts(pa.array([1.0, None, 2.5, float("nan")])).values.to_pylist() == ["1", None, "2.5", None]
    assert texts(pa.array([True, False])).values.to_pylist() == ["true", "false"]
    got = texts(pa.array([" a", "b ", "", "NA", "c d"]))
    assert got.values.to_pylist() == ["a", "b", None, None, "c d"]
    assert got.changes == {"trimmed": 2, "missing_marker": 1}


@pytest.mark.parametrize(
    ("cell", "moment_"),
    [
        ("1871-05-04", datetime(1871, 5, 4, tzinfo=UTC)),
        ("1871", datetime(1871, 1, 1, tzinfo=UTC)),
        ("2026-11-21T02:03:04.5", datetime(2026, 11, 21, 2, 3, 4, 500_000, tzinfo=UTC)),
        ("2026-11-21 02:03:04Z", datetime(2026, 11, 21, 2, 3, 4, tzinfo=UTC)),
        ("2026-11-21T02:03:04+02:00", datetime(2026, 11, 21, 0, 3, 4, tzinfo=UTC)),
    ],
)
def test_times(cell: str, moment_: datetime) -> None:
    # Alone, and among cells that need the slow path.
    assert timestamps(pa.array([cell]))[0] == micros(moment_)
    mixed = timestamps(pa.array([cell, "soon", None, "2020-01-01T00:00:00+01:00"]))
    assert mixed[0] == micros(moment_)
    assert mixed[1:3].tolist() == [MISSING, MISSING]


def test_typed_times() -> None:
    assert timestamps(pa.array([datetime(1871, 5, 4).date(), None])).tolist() == [
        micros(datetime(1871, 5, 4)),
        MISSING,
    ]
    zoned = pa.array([0], pa.int64()).cast(pa.timestamp("s", tz="Europe/Berlin"))
    assert timestamps(zoned).tolist() == [0]
    assert timestamps(pa.array([1914, 2007])).tolist() == [micros(datetime(1914, 1, 1)), micros(datetime(2007, 1, 1))]
    assert timestamps(pa.array([True])).tolist() == [MISSING]


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))
def test_a_moment_survives_microseconds(value: datetime) -> None:
    assert moment(micros(value)) == value.replace(tzinfo=UTC)
    assert timestamps(pa.array([value.isoformat()]))[0] == micros(value)


@pytest.mark.parametrize(
    ("column", "labels", "codes"),
    [
        (pa.array(["1", "0", "", "1.0"]), (0, 1), [1, 0, -1, 1]),
        (pa.array([1.0, 0.0, None]), (0, 1), [1, 0, -1]),
        (pa.array(["true", "False", "NA"]), (False, True), [1, 0, -1]),
        (pa.array([True, False]), (False, True), [1, 0]),
        (pa.array(["007", "1"]), ("007", "1"), [0, 1]),
        (pa.array(["yes", "no", " yes"]), ("no", "yes"), [1, 0, 1]),
    ],
)
def test_classes_are_told_from_the_cells(column: pa.Array, labels: tuple[Label, ...], codes: list[int]) -> None:
    target = classification_target(column, (), Policy("classification", "y"))
    assert target.labels == labels
    assert [type(label) for label in target.labels] == [type(label) for label in labels]
    assert target.codes is not None
    assert target.codes.tolist() == codes


def test_known_classes_fix_the_type() -> None:
    policy = Policy("classification", "y")
    target = classification_target(pa.array(["1", "0", "maybe", "true"]), (False, True), policy)
    assert target.codes is not None
    assert target.codes.tolist() == [1, 0, -2, 1]
    target = classification_target(pa.array([True, False, None]), (0, 1), policy)
    assert target.codes is not None
    assert target.codes.tolist() == [1, 0, -1]
    target = classification_target(pa.array(["a", "c"]), ("a", "b"), policy)
    assert target.refused["unknown_class"].tolist() == [False, True]


def test_the_positive_class_fixes_the_type() -> None:
    policy = Policy("classification", "y", positive="1")
    assert classification_target(pa.array(["1", "0"]), (), policy).labels == ("0", "1")


def test_a_continuous_target_is_no_classification() -> None:
    with pytest.raises(Refused, match="regression"):
        classification_target(pa.array(np.arange(2000) / 7), (), Policy("classification", "y"))


def test_regression_targets() -> None:
    target = regression_target(pa.array(["1", "x", "", "inf"]))
    assert {k: np.flatnonzero(v).tolist() for k, v in target.refused.items()} == {
        "no_target": [2],
        "bad_target": [1],
        "not_finite": [3],
    }
