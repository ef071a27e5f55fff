"""Files to tables, and every way a file can be no good."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill_ingestion.domain.job import Format, Limits, Refused
from tidemill_ingestion.domain.reading import read


def table_of(folder: Path, data: bytes, format_: Format = "csv", *, gz: bool = False, **limits: float) -> pa.Table:
    path = folder / "file"
    path.write_bytes(data)
    return read(path, format_, folder, gzip_expected=gz, limits=Limits(**limits))  # type: ignore[arg-type]


def test_csv_cells_stay_text(tmp_path: Path) -> None:
    table = table_of(tmp_path, b'\xef\xbb\xbfa, b,c\n1,"x, y",\n007,"two\nlines",NA\n')
    assert table.to_pydict() == {"a": ["1", "007"], "b": ["x, y", "two\nlines"], "c": ["", "NA"]}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    table = table_of(tmp_path, "a,b\n1,2\n".replace(",", delimiter).encode())
    assert table.column_names == ["a", "b"]


def test_gzip_is_told_from_the_content(tmp_path: Path) -> None:
    assert table_of(tmp_path, gzip.compress(b"a,b\n1,2\n")).num_rows == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_json_lines_keep_types_and_mix_into_text(tmp_path: Path) -> None:
    lines = b'{"a": 1, "b": true, "c": 1}\n\n{"a": 2.5, "c": "x", "d": {"k": [1]}}\n{"a": null, "b": false}\n'
    table = table_of(tmp_path, lines, "jsonl")
    assert table.to_pydict() == {
        "a": [1.0, 2.5, None],
        "b": [True, None, False],
        "c": ["1", "x", None],
        "d": [None, '{"k": [1]}', None],
    }


def test_json_integers_beyond_64_bits_are_text(tmp_path: Path) -> None:
    assert table_of(tmp_path, b'{"a": 99999999999999999999}\n', "jsonl").to_pydict() == {"a": ["9" * 20]}


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, None], "b": ["x", "y"]}), tmp_path / "source")
    table = table_of(tmp_path, (tmp_path / "source").read_bytes(), "parquet")
    assert table.to_pydict() == {"a": [1, None], "b": ["x", "y"]}


PACKED = gzip.compress(b"a,b\n" + b"1,2\n" * 5_000, mtime=0)


@pytest.mark.parametrize(
    ("data", "format_", "gz", "code", "says"),
    [
        (b"", "csv", False, "empty_file", "no bytes"),
        (gzip.compress(b"", mtime=0), "csv", True, "empty_file", "unpacks to no bytes"),
        (PACKED[: len(PACKED) // 2], "csv", True, "truncated_gzip", "ends in the middle"),
        (PACKED[:20] + b"\x00" * 30 + PACKED[50:], "csv", True, "bad_gzip", "damaged"),
        (b"a,b\n1,2\n", "csv", True, "bad_gzip", "not gzip"),
        (b"a,b\n", "csv", False, "no_rows", "no rows"),
        (b"\n1,2\n", "csv", False, "no_header", "first line is empty"),
        (b"1,2,3\n4,5,6\n", "csv", False, "no_header", "numbers"),
        (b"a,b,a\n1,2,3\n", "csv", False, "bad_header", "'a'"),
        (b"a,b\n1,2\n3\n4,5\n6,7,8\n", "csv", False, "ragged_rows", "line 3 with 1"),
        (b"a,b\n1,\xff\xfe\n", "csv", False, "bad_encoding", "UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "csv", False, "bad_encoding", "UTF-16"),
        (b"PAR1abc", "csv", False, "bad_csv", "Parquet"),
        (b'{"a": 1}\n{"a": \n', "jsonl", False, "bad_json", "Line 2"),
        (b'{"a": 1}\n[1]\n', "jsonl", False, "bad_json", "Line 2"),
        (b'{"a": "\xff"}\n', "jsonl", False, "bad_encoding", "Line 1"),
        (b"\n\n", "jsonl", False, "no_rows", "No rows"),
        (b"not parquet at all", "parquet", False, "bad_parquet", "Parquet"),
    ],
)
def test_what_is_refused(tmp_path: Path, data: bytes, format_: Format, gz: bool, code: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        table_of(tmp_path, data, format_, gz=gz)
    assert refused.value.refusal.code == code


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(b"a,b\n" + b"0,0\n" * 20_000_000, compresslevel=1)
    for limits in ({"unpacked_bytes": 1_000_000}, {"unpacked_ratio": 50.0}):
        with pytest.raises(Refused) as refused:
            table_of(tmp_path, bomb, **limits)
        assert refused.value.refusal.code == "too_large"
    pq.write_table(pa.table({"a": range(1000)}), tmp_path / "source")
    with pytest.raises(Refused) as refused:
        table_of(tmp_path, (tmp_path / "source").read_bytes(), "parquet", unpacked_bytes=100)
    assert refused.value.refusal.code == "too_large"


def test_no_cell_is_quoted_in_a_refusal(tmp_path: Path) -> None:
    for data in (b"a,b\nsecret,\xff\n", b"a,b\nsecret\n", b'a,b\n"secret,1\n2,3\n'):
        with pytest.raises(Refused) as refused:
            table_of(tmp_path, data)
        assert "secret" not in refused.value.refusal.message


@pytest.mark.parametrize(
    ("data", "format_", "limits"),
    [
        (b"a,b\n" + b"1,2\n" * 11, "csv", {"rows": 10}),
        (b'{"a": 1}\n' * 11, "jsonl", {"rows": 10}),
        (b",".join(b"c%d" % i for i in range(11)) + b"\n", "csv", {"columns": 10}),
        (b'{"a": 1}\n{"b": 1}\n{"c": 1}\n', "jsonl", {"columns": 2}),
        (b"a,b\n" + b"x" * 1025 + b",2\n", "csv", {"field_bytes": 1024}),
        (b'{"a": "' + b"x" * 1025 + b'"}', "jsonl", {"field_bytes": 1024}),
        (b'{"a": "' + b"x" * 1024 * 17 + b'"}', "jsonl", {"field_bytes": 1024}),
        (b"x" * 1024 * 17, "jsonl", {"field_bytes": 1024}),
    ],
)
def test_what_is_too_large_is_refused(tmp_path: Path, data: bytes, format_: Format, limits: dict[str, float]) -> None:
    with pytest.raises(Refused) as refused:
        table_of(tmp_path, data, format_, **limits)
    assert refused.value.refusal.code == "too_large"


@pytest.mark.parametrize("limits", [{"rows": 10}, {"columns": 1}, {"field_bytes": 4}, {"unpacked_bytes": 100}])
def test_a_parquet_file_is_measured_too(tmp_path: Path, limits: dict[str, float]) -> None:
    pq.write_table(pa.table({"a": list(range(11)), "b": ["long enough"] * 11}), tmp_path / "source")
    with pytest.raises(Refused) as refused:
        table_of(tmp_path, (tmp_path / "source").read_bytes(), "parquet", **limits)
    assert refused.value.refusal.code == "too_large"


def test_json_of_any_depth_is_refused_and_not_followed(tmp_path: Path) -> None:
    for data in (b"[" * 100_000, b'{"a":' * 100_000, b'{"a": ' + b"[" * 100_000):
        with pytest.raises(Refused) as refused:
            table_of(tmp_path, data, "jsonl")
        assert refused.value.refusal.code == "bad_json"
