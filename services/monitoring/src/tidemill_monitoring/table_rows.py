"""The child's work on a large table: its rows with their answers, piece by piece. Arrow is imported inside, so that the
service stays without it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

PIECE_ROWS = 256


@dataclass(frozen=True)
class Piece:
    """Rows in a table's order. ``columns`` are the features, one value a row; a row has a prediction or an error."""

    first: int
    ids: list[str]
    columns: dict[str, list[Any]]
    predictions: list[Any]
    probabilities: list[list[float] | None] | None
    errors: list[str | None]
    fields: list[str | None]

    def halves(self) -> "tuple[Piece, Piece]":
        """The first half of the rows and the rest."""
        middle = len(self.ids) // 2
        return self._cut(0, middle), self._cut(middle, len(self.ids))

    def _cut(self, start: int, end: int) -> "Piece":
        odds = self.probabilities
        return Piece(
            self.first + start,
            self.ids[start:end],
            {name: cells[start:end] for name, cells in self.columns.items()},
            self.predictions[start:end],
            odds[start:end] if odds is not None else None,
            self.errors[start:end],
            self.fields[start:end],
        )


def read(table: Path, result: Path, progress: Callable[[Any], None]) -> int:
    """Say a ``Piece`` for each ``PIECE_ROWS`` rows; returns their number. Raises ValueError: not the same rows."""
    asked, told = _table(table, {"prediction_id"}), _table(result, {"prediction_id", "prediction", "error", "field"})
    if asked.column("prediction_id").to_pylist() != told.column("prediction_id").to_pylist():
        raise ValueError("the answers are not those of the table")
    names = [name for name in asked.column_names if name != "prediction_id" and _is_feature(asked.schema.field(name))]
    for first in range(0, asked.num_rows, PIECE_ROWS):
        rows, answers = asked.slice(first, PIECE_ROWS), told.slice(first, PIECE_ROWS).to_pydict()
        odds = answers.get("probabilities")
        columns = {name: [_cell(value) for value in rows.column(name).to_pylist()] for name in names}
        ids, predictions, errors, fields = (answers[n] for n in ("prediction_id", "prediction", "error", "field"))
        progress(Piece(first, ids, columns, predictions, odds, errors, fields))
    return int(asked.num_rows)


def _table(path: Path, columns: set[str]) -> Any:
    import pyarrow as pa

    with pa.OSFile(str(path)) as source:
        try:
            found = pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            found = pa.ipc.open_stream(source).read_all()
    found.validate(full=True)
    if not columns <= set(found.column_names):
        raise ValueError(f"{path.name}: the columns {', '.join(sorted(columns))} are expected")
    return found


def _is_feature(field: Any) -> bool:
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(test(kind) for test in (*tests, pa.types.is_string, pa.types.is_large_string))


def _cell(value: Any) -> Any:
    """As JSON would carry it: what is not finite is missing, a decimal is a number."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    number = float(value)
    return number if isfinite(number) else None
