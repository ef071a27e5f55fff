"""From a file to the parts of a version, and from one version to the next."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill_ingestion.domain.job import (
    Earlier,
    EarlierPart,
    Feature,
    Job,
    Limits,
    Policy,
    Prepared,
    RefusedFile,
)
from tidemill_ingestion.domain.preparation import prepare

ARRIVED = datetime(2026, 11, 21, tzinfo=UTC)
POLICY = Policy("classification", "y", min_rows=20)
Row = dict[str, Any]


def rows(count: int, start: int = 0) -> list[Row]:
    """Rows number ``start`` and following; a row is a function of its number."""
    return [
        {
            "n": f"{i}.5",
            "c": ("red", "green", "blue")[i * 7 % 11 % 3],
            "flag": "true" if i % 3 else "false",
            "name": f"person {i}",
            "day": f"{1871 + i % 40}-04-01",
            "y": "yes" if i % 2 else "no",
        }
        for i in range(start, start + count)
    ]


def write(path: Path, table: Sequence[Row]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    path.write_text(text.getvalue())
    return path


class Dataset:
    """Arrivals one after the other, as the service would make them."""

    def __init__(self, folder: Path, policy: Policy = POLICY, **job: Any) -> None:
        self.folder, self.policy, self.job = folder, policy, job
        self.earlier = Earlier()
        self.count = 0

    def arrive(self, table: Sequence[Row], **job: Any) -> Prepared | RefusedFile:
        self.count += 1
        file = write(self.folder / f"{self.count}.csv", table)
        made = prepare(
            Job(
                file=file,
                format="csv",
                gzip_expected=False,
                arrived=ARRIVED,
                policy=self.policy,
                folder=self.folder / f"made-{self.count}",
                earlier=self.earlier,
                **({"feedback": False} | self.job | job),
            )
        )
        if isinstance(made, Prepared):
            parts = [self.earlier.parts[k] for k in made.kept]
            parts += [EarlierPart(p.split, p.rows, p.first_ordinal, p.last_ordinal, p.path) for p in made.parts]
            columns = (*made.profile["columns"], made.profile["target"])
            self.earlier = Earlier(
                features=made.features,
                classes=made.classes,
                parts=tuple(parts),
                from_ordinal=made.from_ordinal,
                next_ordinal=made.next_ordinal,
                index=made.index,
                edges={c["name"]: c["histogram"]["edges"] for c in columns if "histogram" in c},
            )
        return made

    def prepared(self, table: Sequence[Row], **job: Any) -> Prepared:
        made = self.arrive(table, **job)
        assert isinstance(made, Prepared), made
        return made

    def refused(self, table: Sequence[Row], **job: Any) -> RefusedFile:
        made = self.arrive(table, **job)
        assert isinstance(made, RefusedFile), made
        return made

    def stored(self) -> pa.Table:
        """The version as a reader sees it."""
        table = pa.concat_tables([pq.read_table(part.path) for part in self.earlier.parts])
        return table.filter(pa.compute.field("tidemill_ordinal") >= self.earlier.from_ordinal).sort_by(
            "tidemill_ordinal"
        )


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path)


def test_a_first_data_set(dataset: Dataset) -> None:
    made = dataset.prepared(rows(200))
    assert made.features == (
        Feature("n", "numeric"),
        Feature("c", "categorical"),
        Feature("flag", "numeric"),
        Feature("day", "categorical"),
    )
    assert made.dropped == {"name": "nearly every row has its own value"}
    assert made.classes == ("no", "yes")
    assert made.new_rows == sum(made.rows.values()) == made.next_ordinal == 200
    assert min(made.rows.values()) > 0
    table = dataset.stored()
    assert table.schema.field("tidemill_row").type == pa.uint64()
    assert table.schema.field("tidemill_time").type == pa.timestamp("us", tz="UTC")
    assert table["tidemill_time"].unique().to_pylist() == [ARRIVED]
    assert table["tidemill_ordinal"].to_pylist() == list(range(200))
    assert table["n"].to_pylist() == [i + 0.5 for i in range(200)]
    assert table["y"].to_pylist()[:2] == ["no", "yes"]
    assert made.quarantine is None


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    made = []
    for name in "ab":
        (tmp_path / name).mkdir()
        made.append(Dataset(tmp_path / name).prepared(rows(100)))
    assert [p.sha256 for p in made[0].parts] == [p.sha256 for p in made[1].parts]
    assert made[0].profile == made[1].profile


def test_the_format_does_not_change_an_identity(tmp_path: Path, dataset: Dataset) -> None:
    dataset.prepared(rows(100))
    table = [r | {"n": float(r["n"]), "flag": r["flag"] == "true"} for r in rows(100)]
    columns = {name: [row[name] for row in table] for name in reversed(table[0])}
    pq.write_table(pa.table(columns), tmp_path / "same.parquet")
    made = prepare(
        Job(
            tmp_path / "same.parquet",
            "parquet",
            gzip_expected=False,
            feedback=False,
            arrived=ARRIVED,
            policy=POLICY,
            folder=tmp_path / "same",
            earlier=dataset.earlier,
        )
    )
    assert isinstance(made, RefusedFile)
    assert made.reasons[0].code == "nothing_new"


def test_bad_rows_get_one_reason_each(dataset: Dataset) -> None:
    table = rows(60)
    table[1]["y"] = ""
    table[2]["n"] = "inf"
    table[3]["n"] = "nan"
    table[4] |= {"n": "inf", "y": "NA"}
    table[5] = table[50]
    table[6]["c"] = ""
    made = dataset.prepared(table)
    assert made.quarantined == {"no_target": 2, "not_finite": 2, "duplicate": 1}
    assert made.new_rows == 55
    assert made.quarantine is not None
    bad = pq.read_table(made.quarantine)
    assert bad["tidemill_reason"].to_pylist() == ["no_target", "not_finite", "not_finite", "no_target", "duplicate"]
    assert bad["tidemill_number"].to_pylist() == [2, 3, 4, 5, 51]
    assert bad["n"].to_pylist()[1:4] == ["inf", "nan", "inf"]
    assert set(bad.schema.types[2:]) == {pa.string()}


def test_unparsable_numbers_become_missing_and_are_counted(dataset: Dataset) -> None:
    table = rows(400)
    table[7]["n"] = "unknown"
    made = dataset.prepared(table)
    assert made.coerced["unparsable_number"] == 1
    assert dataset.stored()["n"].null_count == 1
    later = rows(10, start=1000)
    later[0]["n"] = "?"
    assert dataset.prepared(later).coerced["unparsable_number"] == 1


def test_later_files_may_reorder_and_add_columns_and_categories(dataset: Dataset) -> None:
    dataset.prepared(rows(100))
    later = [dict(reversed({**row, "more": "x", "c": "violet"}.items())) for row in rows(5, start=500)]
    made = dataset.prepared(later)
    assert made.new_rows == 5
    assert made.coerced["extra_column"] == 2  # `more`, and `name`, which the schema left out
    assert dataset.stored()["c"].to_pylist()[-1] == "violet"


def test_a_renamed_column_breaks_the_schema(dataset: Dataset) -> None:
    dataset.prepared(rows(100))
    reason = dataset.refused([{("colour" if k == "c" else k): v for k, v in r.items()} for r in rows(5, 500)]).reasons[
        0
    ]
    assert (reason.code, reason.column) == ("breaking_schema", "c")
    table = [{("flags" if k == "flag" else k): v for k, v in r.items()} for r in rows(5, 500)]
    assert "'flags'" in dataset.refused(table).reasons[0].message


def test_feedback_may_lack_a_feature(dataset: Dataset) -> None:
    dataset.prepared(rows(100))
    later = [
        {k: v for k, v in r.items() if k != "c"} | {"tidemill_prediction_id": f"p{i}"}
        for i, r in enumerate(rows(5, 500))
    ]
    made = dataset.prepared(later, feedback=True)
    assert made.coerced["absent_cell"] == 5
    assert dataset.stored()["c"].null_count == 5
    assert dataset.refused(later, feedback=True).reasons[0].code == "nothing_new"


def test_a_numeric_column_that_turned_into_text_breaks_the_schema(dataset: Dataset) -> None:
    dataset.prepared(rows(100))
    reason = dataset.refused([r | {"n": "many"} for r in rows(5, 500)]).reasons[0]
    assert (reason.code, reason.column, reason.count) == ("breaking_schema", "n", 5)


def test_what_a_first_data_set_must_have(tmp_path: Path) -> None:
    def code(table: Sequence[Row], **changes: Any) -> tuple[str, str]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        reason = Dataset(folder, dataclasses.replace(POLICY, **changes)).refused(table).reasons[0]
        return reason.code, reason.message

    table = rows(60)
    assert code([{k: v for k, v in r.items() if k != "y"} | {"Y": r["y"]} for r in table])[0] == "no_target_column"
    assert code([r | {"y": "yes"} for r in table]) == (
        "one_class",
        "The target 'y' has one class only: at least two are needed.",
    )
    assert code(table, positive="maybe")[0] == "missing_class"
    assert code(rows(10))[0] == "too_few_rows"
    assert code(table, time="when")[0] == "no_time_column"
    assert code(table, keys=("id",))[0] == "breaking_schema"
    assert code(table, exclude=("n", "c", "flag", "day"))[0] == "no_features"
    assert code([r | {"y": "7"} for r in table], task="regression")[0] == "constant_target"
    assert code(table, task="regression")[0] == "nothing_new"
    assert code(table, features=(Feature("c", "numeric"),))[0] == "breaking_schema"


def test_mostly_missing_columns_leave_the_schema(dataset: Dataset) -> None:
    made = dataset.prepared([r | {"c": "red" if i == 0 else ""} for i, r in enumerate(rows(100))])
    assert made.dropped["c"] == "99% of the cells are missing"
    assert "c" not in dataset.stored().column_names


def test_one_class_is_fine_later_and_a_new_class_is_not(dataset: Dataset) -> None:
    dataset.prepared(rows(100))
    made = dataset.prepared([r | {"y": "yes"} for r in rows(10, 500)])
    assert made.classes == ("no", "yes")
    later = rows(4, 900)
    later[0]["y"] = "maybe"
    assert dataset.prepared(later).quarantined == {"unknown_class": 1}


def test_the_same_rows_again_change_nothing(dataset: Dataset) -> None:
    dataset.prepared(rows(100))
    again = dataset.refused(rows(100))
    assert [r.code for r in again.reasons] == ["nothing_new", "duplicate"]
    made = dataset.prepared([*rows(100), *rows(10, 700)])
    assert (made.new_rows, made.quarantined) == (10, {"duplicate": 100})
    # Without the index the identities come from the parts themselves.
    dataset.earlier = dataclasses.replace(dataset.earlier, index=None)
    assert dataset.refused(rows(10, 700)).reasons[0].code == "nothing_new"


def test_keys_identify_rows(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path, dataclasses.replace(POLICY, keys=("name",)))
    made = dataset.prepared(rows(100))
    assert "name" not in {f.name for f in made.features} | set(made.dropped)
    changed = [r | {"n": "0"} for r in rows(2)]
    assert dataset.refused(changed).reasons[0].code == "nothing_new"
    nameless = [r | {"name": ""} for r in rows(3, 500)]
    assert dataset.prepared([*rows(2, 500), *nameless]).quarantined == {"no_key": 3}


def test_a_time_column_orders_the_split(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path, dataclasses.replace(POLICY, time="day"))
    table = rows(100)
    table[3]["day"] = "some day"
    made = dataset.prepared(table)
    assert made.quarantined == {"bad_time": 1}
    spans = {p.split: (p.time_min, p.time_max) for p in made.parts}
    assert spans["train"][0] == datetime(1871, 4, 1, tzinfo=UTC)
    assert spans["train"][1] <= spans["validation"][0] <= spans["validation"][1] <= spans["test"][0]
    assert made.rows == {"train": 69, "validation": 15, "test": 15}
    # Feedback carries its own time instead of the column.
    later = [
        {k: v for k, v in r.items() if k != "day"}
        | {"tidemill_time": "1999-01-01T00:00:00Z", "tidemill_prediction_id": f"p{i}"}
        for i, r in enumerate(rows(10, 500))
    ]
    made = dataset.prepared(later, feedback=True)
    assert {p.time_max for p in made.parts} == {datetime(1999, 1, 1, tzinfo=UTC)}
    assert [p.split for p in made.parts] == ["train", "validation", "test"]


def test_a_row_keeps_its_split(dataset: Dataset) -> None:
    dataset.prepared(rows(200))
    before = {p.path: pq.read_table(p.path)["tidemill_row"].to_pylist() for p in dataset.earlier.parts}
    dataset.prepared(rows(200, 1000))
    after = {p.path: pq.read_table(p.path)["tidemill_row"].to_pylist() for p in dataset.earlier.parts}
    assert before.items() <= after.items()


def test_a_sliding_window_keeps_the_newest_rows(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path, dataclasses.replace(POLICY, window_rows=150))
    dataset.prepared(rows(100))
    made = dataset.prepared(rows(100, 1000))
    assert (made.from_ordinal, sum(made.rows.values())) == (50, 150)
    assert dataset.stored()["tidemill_ordinal"].to_pylist() == list(range(50, 200))
    made = dataset.prepared(rows(100, 2000))
    assert (made.from_ordinal, len(made.kept), sum(made.rows.values())) == (150, 3, 150)
    # A row that has left the window is unknown, with or without the index.
    for index in (dataset.earlier.index, None):
        dataset.earlier = dataclasses.replace(dataset.earlier, index=index)
        assert dataset.refused(rows(50, 1050)).reasons[0].code == "nothing_new"
    assert dataset.prepared(rows(10)).new_rows == 10


def test_an_arrival_larger_than_the_window(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path, dataclasses.replace(POLICY, window_rows=100))
    made = dataset.prepared(rows(300))
    assert (made.new_rows, made.from_ordinal, sum(made.rows.values())) == (300, 200, 100)
    assert dataset.stored().num_rows == 100


def test_the_profile_describes_live_rows_with_lasting_edges(dataset: Dataset) -> None:
    first = dataset.prepared(rows(100)).profile
    n = first["columns"][0]
    assert (n["rows"], n["missing"], n["distinct"], n["minimum"], n["maximum"]) == (100, 0, 100, 0.5, 99.5)
    assert sum(n["histogram"]["counts"]) == 100
    assert list(first["target"]["top"].items()) == [("no", 50), ("yes", 50)]
    assert all(0 <= c["target_association"] <= 1 for c in first["columns"])
    second = dataset.prepared(rows(50, 1000)).profile
    assert second["rows"] == 150
    assert second["columns"][0]["histogram"]["edges"] == n["histogram"]["edges"]
    assert second["columns"][0]["histogram"]["counts"][-1] == n["histogram"]["counts"][-1] + 50
    bounded = dataset.prepared(rows(50, 2000), limits=Limits(profile_rows=80)).profile
    assert (bounded["rows"], bounded["columns"][0]["minimum"]) == (80, 1020.5)


def test_regression(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path, Policy("regression", "n", min_rows=20))
    made = dataset.prepared([r | {"n": "x"} if i == 4 else r for i, r in enumerate(rows(100))])
    assert made.quarantined == {"bad_target": 1}
    assert made.classes == ()
    assert made.profile["target"]["kind"] == "numeric"
    assert dataset.stored().schema.field("n").type == pa.float64()
