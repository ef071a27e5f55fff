"""What is made of somebody's file, and what is said of the policies on it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn")

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from tidemill_console.acceptance import learned
from tidemill_console.acceptance.learning import fit
from tidemill_console.acceptance.outcome import Outcome, report, score
from tidemill_console.acceptance.policies import policies
from tidemill_console.acceptance.reading import read
from tidemill_console.acceptance.specification import specification
from tidemill_console.acceptance.stream import Stream, moment, row_of, stream
from tidemill_contracts.model import RowSelection

ROWS = 600
FIRST = 300


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def table(**columns: Any) -> Any:
    rng = np.random.default_rng(0)
    plain = {"x": rng.normal(size=ROWS), "k": ["u", " v ", None] * (ROWS // 3)}
    return pd.DataFrame(plain | {"y": (plain["x"] > 0).astype(int)} | columns)


def played(folder: Path, frame: Any, name: str = "s.parquet", **options: Any) -> Stream:
    file = folder / name
    if name.endswith(".parquet"):
        frame.to_parquet(file)
    else:
        frame.to_csv(file, index=False)
    return read(file, "y", **({"first": FIRST} | options))


@pytest.mark.parametrize("name", ["s.parquet", "s.csv"])
def test_a_file_is_read_with_its_changes_and_delays(tmp_path: Path, name: str) -> None:
    waits = [1.0, np.nan, -5.0] * (ROWS // 3)
    frame = table(wait=waits, concept=["a"] * 400 + ["b"] * 200, sure=[True, False, None] * (ROWS // 3))
    made = played(tmp_path, frame, name, delay="wait", change="concept")
    assert (made.numeric, made.categorical) == (["x", "sure"], ["k"])
    assert (made.classes, made.changes, made.delays[:3].tolist()) == (["0", "1"], (400,), [1, -1, -1])
    assert [made.cells(row)["k"] for row in range(3)] == ["u", "v", None]
    assert made.cells(0)["sure"] == 1.0 and made.cells(2)["sure"] is None


@pytest.mark.parametrize(
    ("told", "spelled"),
    [
        ([True, False], ["False", "True"]),
        (["true", "false"], ["False", "True"]),
        ([1.0, -1.0], ["-1", "1"]),
        (["+1", "-1.0"], ["-1", "1"]),
        ([" yes", "no"], ["no", "yes"]),
        ([0.5, 2.0], ["0.5", "2"]),
    ],
)
def test_classes_are_spelled_as_the_answers_will_be(tmp_path: Path, told: list[Any], spelled: list[str]) -> None:
    made = played(tmp_path, table(y=told * (ROWS // 2)))
    assert made.classes == spelled
    assert made.answer(True) == "True" and made.answer(-1) == "-1"


def test_columns_that_no_model_can_use_are_left_out_and_named(tmp_path: Path) -> None:
    useless: dict[str, Any] = {
        "id": range(ROWS),
        "when": pd.date_range("2020-01-01", periods=ROWS).strftime("%Y-%m-%d"),
        "name": [f"n{i}" for i in range(ROWS)],
        "nothing": [None] * ROWS,
        "cells": [[1, 2]] * ROWS,
    }
    made = played(tmp_path, table(**useless))
    assert list(made.table.columns) == ["x", "k"]
    assert all(any(repr(name) in remark for remark in made.remarks) for name in useless)


def test_names_that_the_pipeline_needs_for_itself_are_changed(tmp_path: Path) -> None:
    other = np.random.default_rng(1).normal(size=ROWS)
    made = played(tmp_path, table(truth=other, at=other, row=other, tidemill_x=other, x_row=other))
    assert list(made.table.columns) == ["x", "k", "x_truth", "x_at", "x_row_2", "x_tidemill_x", "x_row"]
    specification(made, "s", 0, 50)


def test_numbers_out_of_range_and_question_marks_are_missing(tmp_path: Path) -> None:
    odd = table(z=[np.inf, 1e300, 2.0] * (ROWS // 3), q=["?", "3", "4.5"] * (ROWS // 3))
    made = played(tmp_path, odd, "s.csv")
    assert [made.cells(row)["z"] for row in range(3)] == [None, None, 2.0]
    assert [made.cells(row)["q"] for row in range(3)] == [None, 3.0, 4.5]


def test_a_class_too_rare_to_be_learned_is_kept_from_the_first_data_set(tmp_path: Path) -> None:
    labels = (["a", "b"] * ROWS)[:ROWS]
    labels[5], labels[400] = "rare", "new"
    made = played(tmp_path, table(y=labels))
    assert made.learnable.sum() == FIRST - 1 and not made.learnable[5]
    assert "'new', 'rare'" in made.remarks[0] and "1 rows will be wrong" in made.remarks[0]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"y": [None] + [0, 1] * 299 + [1]}, {}, "1 rows have no 'y', the first of them row 0"),
        ({"y": [f"t{i}" for i in range(ROWS)]}, {}, "600 different texts"),
        ({"y": [0] * 500 + [1] * 100}, {}, "one class only"),
        ({"wait": ["soon"] * ROWS}, {"delay": "wait"}, "row 0 of 'wait' is 'soon'"),
        ({}, {"change": "c"}, "no column 'c'; there are 'x', 'k', 'y'"),
        ({}, {"first": ROWS}, "more than the 600"),
        ({}, {"exclude": ("x", "k")}, "no column is left"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, columns: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        played(tmp_path, table(**columns), **options)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    for name, body in (("a.csv", b""), ("b.csv", b"\x00\xff\xfe\x81"), ("c.parquet", b"x,y"), ("d.pq", b"PAR1 no")):
        (tmp_path / name).write_bytes(body)
        with pytest.raises(ValueError, match=r"."):
            read(tmp_path / name, "y")
    with pytest.raises(ValueError, match="no such file"):
        read(tmp_path / "none.csv", "y")


def test_fields_may_lie_between_semicolons(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(table().to_csv(index=False, sep=";"))
    assert read(tmp_path / "s.csv", "y", first=FIRST).numeric == ["x"]


def test_numbers_are_predicted_where_the_target_has_many(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=ROWS)
    made = played(tmp_path, table(y=3 * x), change=None)
    assert made.task == "regression"
    assert specification(made, "s", 0, 50).primary == "rmse"
    outcomes = {o.policy: o for o in policies(made, 100, 0)}
    assert score(made, outcomes["static"], FIRST, ROWS) > 0.95 > score(made, outcomes["no_change"], FIRST, ROWS)
    nothing = Outcome("tidemill", made.unanswered())
    assert score(made, nothing, FIRST, ROWS) == pytest.approx(0)
    assert report(made, nothing, [])["unanswered"] == ROWS - FIRST


def test_a_policy_learns_without_a_class_that_is_too_rare() -> None:
    x = np.arange(60.0).reshape(-1, 1)
    y = np.array(["a"] * 30 + ["b"] * 29 + ["c"], object)
    assert set(fit(x, y, 0).predict(x)) == {"a", "b"}
    assert fit(x[:30], y[:30], 0) is None


def test_labels_and_rows_must_be_there() -> None:
    with pytest.raises(ValueError, match="more than the 10"):
        stream("s", pd.DataFrame({"x": range(10)}), ["a", "b"] * 5, first=10)


def test_promotions_of_models_that_learned_wrong_labels_are_named() -> None:
    made = replace(stream("s", table(), ["a", "b"] * (ROWS // 2), first=FIRST), wrong=(310, 311, 500))
    outcome = Outcome("tidemill", made.unanswered(), promotions=[320, 400, 450], breaker=[(410, 430), (440, None)])
    outcome.learned = [np.arange(300, 312), np.arange(312, 500), np.arange(300)]
    said = report(made, outcome, [])
    assert said["poisoned_promotions"] == [{"row": 320, "rows": 12, "wrong": 2}]
    assert (said["promotions"], said["breaker"]) == (3, [[410, 430], [440, None]])


def test_the_rows_of_a_selection_are_found_again_by_their_event_times(tmp_path: Path) -> None:
    files = []
    for name, rows in (("train", [7, 3, 5]), ("validation", [9, 4])):
        ordinals = [10 - row for row in rows]
        times = pa.array([moment(row) for row in rows], pa.timestamp("us", "UTC"))
        files.append(tmp_path / f"{name}.parquet")
        pq.write_table(pa.table({"tidemill_time": times, "tidemill_ordinal": ordinals}), files[-1])

    def rows_of(from_ordinal: int = 0, **selection: Any) -> list[int]:
        return learned.read(files, from_ordinal, RowSelection(**selection)).tolist()

    assert rows_of() == [3, 4, 5, 7, 9]
    assert rows_of(since=moment(5)) == [5, 7, 9]
    assert rows_of(newest=2) == [3, 4], "the newest are those that came last"
    assert rows_of(since=moment(4), newest=2) == [4, 5]
    assert rows_of(from_ordinal=4) == [3, 4, 5]
    assert row_of(moment(12_345)) == 12_345
