"""JSON Lines: one object a line, parsed with line numbers; a column may mix types."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tidemill_ingestion.domain.job import Limits, Refused

_CHUNK_LINES = 20_000
_LINE_FIELDS = 16
"""Longest line, in longest values."""


def read_json_lines(path: Path, limits: Limits) -> pa.Table:
    """Columns in order of first appearance: booleans, integers, floats or, where types mix, strings.

    Raises Refused: bad_encoding, bad_json, too_large.
    """
    names: dict[str, None] = {}
    chunks: list[list[dict[str, Any]]] = []
    for chunk in _chunks(path, limits.field_bytes * _LINE_FIELDS):
        for row in chunk:
            names.update(dict.fromkeys(row))
            if len(names) > limits.columns:
                message = f"The file has more than {limits.columns} columns, which is how many are taken."
                raise Refused("too_large", message, count=len(names))
        chunks.append(chunk)
    if not names:
        return pa.table({})
    return pa.table({name: _column([row.get(name) for chunk in chunks for row in chunk]) for name in names})


def _chunks(path: Path, line_bytes: int) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(line_bytes + 1), b""), start=1):
            if len(line) > line_bytes:
                raise Refused("too_large", f"Line {number} has more than {line_bytes} bytes.")
            if not line.strip():
                continue
            rows.append(_row(number, line))
            if len(rows) == _CHUNK_LINES:
                yield rows
                rows = []
    yield rows


def _row(number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError:
        raise Refused("bad_encoding", f"Line {number} is not UTF-8.") from None
    except (ValueError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply or out of range"
        raise Refused("bad_json", f"Line {number} is not JSON: {what}.") from None
    if not isinstance(row, dict):
        raise Refused("bad_json", f"Line {number} is not a JSON object.")
    return row


def _column(values: list[Any]) -> pa.Array:
    types = {type(value) for value in values} - {type(None)}
    if types <= {int, float} and types:
        return (
            pa.array([None if v is None else float(v) for v in values], pa.float64())
            if float in types
            else (_integers(values))
        )
    if types == {bool}:
        return pa.array(values, pa.bool_())
    return pa.array([_text(value) for value in values], pa.string())


def _integers(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.int64())
    except (pa.ArrowInvalid, OverflowError):
        return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True)
