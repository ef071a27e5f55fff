"""Columns of a file are judged as single rows are, and parts do not depend on where a run began."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from tidemill_serving.domain.features import Layout, matrices
from tidemill_serving.domain.package import model_of
from tidemill_serving.scoring.job import Finished, Job, Unreadable
from tidemill_serving.scoring.reading import read
from tidemill_serving.scoring.source import chunks
from tidemill_serving.scoring.work import score

KNOWN = Layout(("height", "weight"), ("colour",), {"colour": frozenset({"red", "green", "blue"})})
SIGNATURE = {
    "task": "classification",
    "numeric": KNOWN.numeric,
    "categorical": KNOWN.categorical,
    "categories": {"colour": ["red", "green", "blue"]},
    "unknown_categories": "reject",
    "classes": ["no", "yes"],
    "positive": "yes",
    "threshold": None,
}


def table(rows: int) -> pa.Table:
    random = np.random.default_rng(rows)
    colours, shares = ["red", "green", "blue", "mauve", ""], [0.4, 0.3, 0.2, 0.05, 0.05]
    return pa.table(
        {
            "key": [f"k{i}" for i in range(rows)],
            "height": pa.array(random.normal(size=rows), mask=random.random(rows) < 0.1),
            "weight": pa.array(random.integers(-3, 4, rows), pa.int16()),
            "colour": pa.array(random.choice(colours, rows, p=shares)),
        }
    )


CELLS: list[tuple[pa.Array, pa.Array]] = [
    (pa.array([1.5, None, float("inf"), 1e39, -1e39, 3.4e38]), pa.array(["red", None, "mauve", "", "green", "red"])),
    (pa.array([1, 2**60, -5, None, 0, 7]), pa.array(["red"] * 6).dictionary_encode()),
    (pa.array([True, False, None] * 2), pa.array(["x", "red"] * 3, pa.large_string())),
    (pa.array([1, 2, None] * 2, pa.decimal128(10, 2)), pa.array([None] * 6)),
    (pa.array([None] * 6), pa.array([1, 2, 3, None, 5, 6])),
    (pa.array([["a"]] * 6), pa.array(["red"] * 6)),
]


@pytest.mark.parametrize(("number", "text"), CELLS)
def test_a_column_is_judged_as_its_cells_are(number: pa.Array, text: pa.Array) -> None:
    batch = pa.record_batch({"height": number, "weight": pa.array(range(6)), "colour": text})
    rows = batch.to_pylist()
    for row in rows:
        if type(row["height"]).__name__ == "Decimal":
            row["height"] = float(row["height"])
    expected, refusals = matrices(rows, KNOWN)
    found, verdicts = read(batch, KNOWN)
    np.testing.assert_array_equal(found.numeric, expected.numeric)
    assert found.categorical.tolist() == expected.categorical.tolist()
    assert verdicts.error.tolist() == [r.error if r else None for r in refusals]
    assert verdicts.column.tolist() == [r.field if r else None for r in refusals]


def test_text_of_a_csv_file_becomes_numbers_where_it_spells_one(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("height,other,weight,colour\n1.5,x,2,red\n,,,\n x ,,1,\n true ,,1e3,blue\ninf,,1,NA\n")
    (batch,) = chunks(file, "csv", ["height", "weight", "colour"], 100, 0)
    found, verdicts = read(batch, KNOWN)
    assert verdicts.error.tolist() == [None, None, "wrong_type", None, "not_finite"]
    np.testing.assert_array_equal(found.numeric, np.array([[1.5, 2], [np.nan, np.nan], [1, 1000]], np.float32))
    assert found.categorical.tolist() == [["red"], [""], ["blue"]]


@pytest.fixture
def job(tmp_path: Path, make_onnx: Callable[[float], bytes]) -> Callable[..., Job]:
    """A job on 2 500 rows in parts of 1 000."""
    (tmp_path / "model.onnx").write_bytes(make_onnx(0.5))
    (tmp_path / "signature.json").write_text(json.dumps(SIGNATURE))
    pq.write_table(table(2_500), tmp_path / "rows.parquet", row_group_size=700)

    def make(**changes: Any) -> Job:
        folder = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        values: dict[str, Any] = {
            "folder": folder,
            "input": tmp_path / "rows.parquet",
            "format": "parquet",
            "row_id": None,
            "onnx": tmp_path / "model.onnx",
            "signature": tmp_path / "signature.json",
            "model_version": "0123456789ab",
            "part_rows": 1_000,
            "first_part": 0,
            "threads": 1,
        }
        return Job(**(values | changes))

    return make


def scored(job: Job) -> list[Finished]:
    found: list[Finished] = []
    assert score(job, found.append) is None
    return found


def test_every_row_has_a_prediction_or_an_error(job: Callable[..., Job]) -> None:
    finished = scored(job(row_id="key"))
    assert [(f.rows, f.total) for f in finished] == [(1_000, 2_500), (1_000, 2_500), (500, 2_500)]
    found = pa.concat_tables([pq.read_table(f.path) for f in finished]).to_pylist()
    rows = table(2_500).to_pylist()
    inputs, refusals = matrices(rows, KNOWN)
    model = model_of(finished[0].path.parent.parent.joinpath("model.onnx").read_bytes(), SIGNATURE)
    answers = model.predict(inputs)
    assert answers.probabilities is not None
    expected = iter(zip(answers.values, answers.probabilities, strict=True))
    for row, refusal, result in zip(rows, refusals, found, strict=True):
        assert (result["row"], result["model_version"]) == (row["key"], "0123456789ab")
        if refusal:
            assert (result["error"], result["field"]) == ("unknown_category", "colour")
            assert result["prediction"] is result["probabilities"] is None
        else:
            value, odds = next(expected)
            assert result["prediction"] == value
            assert result["probabilities"] == pytest.approx(odds.tolist(), rel=1e-6)
    refused = sum(refusal is not None for refusal in refusals)
    assert sum(f.errors.get("unknown_category", 0) for f in finished) == refused > 0


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_csv_gives_the_same_results(job: Callable[..., Job], tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows.{suffix}"
    with pa.CompressedOutputStream(str(file), "gzip") if suffix.endswith("gz") else pa.OSFile(str(file), "wb") as out:
        pacsv.write_csv(table(2_500), out)
    of_csv, of_parquet = scored(job(input=file, format=suffix)), scored(job())
    assert [f.path.read_bytes() for f in of_csv] == [f.path.read_bytes() for f in of_parquet]


def test_parts_are_the_same_bytes_wherever_a_run_began(job: Callable[..., Job]) -> None:
    whole = scored(job())
    for first in (1, 2):
        rest = scored(job(first_part=first))
        assert [f.index for f in rest] == list(range(first, 3))
        assert [f.path.read_bytes() for f in rest] == [f.path.read_bytes() for f in whole[first:]]
    assert scored(job(first_part=3)) == []


def test_a_file_that_cannot_be_scored_says_why(job: Callable[..., Job], tmp_path: Path) -> None:
    def refusal(**changes: Any) -> Unreadable:
        found = score(job(**changes), lambda _: None)
        assert found is not None
        return found

    narrow, junk = tmp_path / "narrow.parquet", tmp_path / "junk"
    pq.write_table(table(10).drop(["weight"]), narrow)
    junk.write_bytes(b"\x00" * 1_000)
    assert (refusal(input=narrow).code, refusal(row_id="no").code) == ("missing_column", "missing_column")
    assert "'weight'" in refusal(input=narrow).message
    for format_ in ("parquet", "csv.gz"):
        assert refusal(input=junk, format=format_).code == "unreadable"
