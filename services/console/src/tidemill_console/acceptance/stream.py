"""A labelled stream: one row an event, in order, with the truth of each and when it becomes known."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[Any]
_BEGIN = datetime(2001, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Stream:
    """``table`` [n, features]: number columns are numeric, others categorical. ``labels`` [n]: text.

    ``delays`` [n] counts the rows after which a label becomes known, -1 for never. ``changes`` are the positions of
    the first rows of new concepts, where that is known; the first ``first`` rows are the first data set.
    """

    name: str
    table: pd.DataFrame
    labels: Array
    delays: Array
    changes: tuple[int, ...] = ()
    first: int = 2_000

    @property
    def numeric(self) -> list[str]:
        """Names of the numeric columns."""
        return [c for c in self.table.columns if pd.api.types.is_numeric_dtype(self.table[c])]

    @property
    def categorical(self) -> list[str]:
        """Names of the categorical columns."""
        return [c for c in self.table.columns if c not in self.numeric]

    @property
    def classes(self) -> list[str]:
        """Labels that occur, sorted."""
        return sorted(set(self.labels.tolist()))

    @property
    def concepts(self) -> list[tuple[int, int]]:
        """First row, and row after the last, of each concept that follows a change."""
        return list(zip(self.changes, [*self.changes[1:], len(self)], strict=False))

    def __len__(self) -> int:
        return len(self.labels)

    def cells(self, row: int) -> dict[str, Any]:
        """A row as a prediction request names it: numbers and strings, None for missing."""
        found = self.table.iloc[row].to_dict()
        return {k: None if v is None or v != v else v for k, v in found.items()}

    def known(self, before: int, now: int) -> list[int]:
        """Live rows whose labels become known when row ``now`` is about to arrive and were not at ``before``."""
        due = np.arange(len(self)) + np.maximum(self.delays, 0) + 1
        hit = (self.delays >= 0) & (due > before) & (due <= now) & (np.arange(len(self)) >= self.first)
        return [int(i) for i in np.flatnonzero(hit)]


def moment(row: int) -> datetime:
    """The event time of a row: one a second."""
    return _BEGIN + timedelta(seconds=row)


def stream(
    name: str,
    table: pd.DataFrame,
    labels: Any,
    *,
    changes: tuple[int, ...] = (),
    first: int = 2_000,
    delays: Any = None,
) -> Stream:
    """A stream from plain columns. Raises ValueError when there is nothing to play."""
    if len(table) <= first:
        raise ValueError(f"{len(table)} rows: more than the {first} of the first data set are needed")
    plain = table.reset_index(drop=True)
    columns = {str(c): _column(plain[c]) for c in plain.columns}
    text = np.array([label_of(v) for v in labels], dtype=object)
    if len(set(text[:first].tolist())) < 2:
        raise ValueError(f"the first {first} rows hold one class only: give more of them (--first)")
    waits = np.zeros(len(text), np.int64) if delays is None else np.asarray(delays, np.int64)
    return Stream(name, pd.DataFrame(columns), text, waits, changes, first)


def read(
    file: Path, target: str, *, delay: str | None, change: str | None, exclude: tuple[str, ...], first: int
) -> Stream:
    """A Parquet or CSV file. ``delay`` names a column of rows until the label is known (empty or negative: never),
    ``change`` one that is true where a new concept begins, or that holds the concept's name or number. Raises
    ValueError that names what is missing."""
    table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
    for column in (target, delay, change, *exclude):
        if column is not None and column not in table.columns:
            raise ValueError(f"{file.name} has no column {column!r}; it has {', '.join(map(str, table.columns))}")
    if table[target].isna().any():
        raise ValueError(f"{file.name}: {int(table[target].isna().sum())} rows have no {target}; say never by --delay")
    waits = table[delay].fillna(-1).to_numpy() if delay else None
    changes = _changes(table[change], first) if change else ()
    features = table.drop(columns=[c for c in {target, delay, change, *exclude} if c is not None])
    return stream(file.stem, features, table[target], changes=changes, first=first, delays=waits)


def _changes(column: pd.Series, first: int) -> tuple[int, ...]:
    values = column.to_numpy()
    flags = set(pd.unique(column.dropna())) <= {0, 1} and int(np.sum(values == 1)) < len(values) // 20
    found = np.flatnonzero(values == 1) if flags else np.flatnonzero(values[1:] != values[:-1]) + 1
    return tuple(int(i) for i in found if i >= first)


def _column(column: pd.Series) -> Any:
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(np.float64).to_numpy()
    return np.array([None if pd.isna(v) else str(v) for v in column], dtype=object)


def label_of(value: Any) -> str:
    """A class as text; whole floats are written as integers."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
