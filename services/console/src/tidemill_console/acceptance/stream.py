"""A labelled stream: one row an event, in order, with the truth of each and when it becomes known."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[Any]
Label = str | float
TRAIN = 0.7
"""The oldest share of an arrival, which is trained on."""
LEAST_OF_A_CLASS = 3
_BEGIN = datetime(2001, 1, 1, tzinfo=UTC)
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})(\.0+)?")


@dataclass(frozen=True)
class Misled:
    """Rows with wrong labels that an operator publishes as data before live row ``row``, and the only ones that the
    training they ask for learns from; nothing but later labels is left to show that its model is bad."""

    row: int
    table: pd.DataFrame
    labels: Array

    def moment(self, number: int) -> datetime:
        """The event time of one of them: after the live rows that came before, and before the next one."""
        return moment(self.row) + timedelta(microseconds=number)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Stream:
    """``table`` [n, features]: number columns are numeric, others categorical. ``labels`` [n]: text, or numbers where
    numbers are predicted.

    ``delays`` [n] counts the rows after which a label becomes known, -1 for never. ``changes`` are the positions of
    the first rows of new concepts, where that is known; the first ``first`` rows are the first data set. ``remarks``
    say what was made of the file, ``wrong`` are the rows whose label is known to be none of the truth's.
    """

    name: str
    table: pd.DataFrame
    labels: Array
    delays: Array
    changes: tuple[int, ...] = ()
    first: int = 2_000
    task: Literal["classification", "regression"] = "classification"
    remarks: tuple[str, ...] = ()
    wrong: tuple[int, ...] = ()
    misled: Misled | None = None

    @property
    def classifies(self) -> bool:
        """Whether classes are predicted."""
        return self.task == "classification"

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

    @property
    def learnable(self) -> Array:
        """[first] whether a row can be in the first data set: not one of a class that is too rare to be learned."""
        if not self.classifies:
            return np.full(self.first, True)
        trained = pd.Series(self.labels[: int(self.first * TRAIN)]).value_counts()
        return np.isin(self.labels[: self.first], list(trained.index[trained >= LEAST_OF_A_CLASS]))

    def __len__(self) -> int:
        return len(self.labels)

    def unanswered(self) -> Array:
        """[n] answers before any was given: ""."""
        return np.full(len(self), "", dtype=object)

    def answer(self, value: Any) -> Label:
        """A model's answer in the form of ``labels``."""
        return str(value) if self.classifies else float(value)

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


def row_of(at: datetime) -> int:
    """The row whose event time this is."""
    return round((at - _BEGIN).total_seconds())


def stream(
    name: str,
    table: pd.DataFrame,
    labels: Any,
    *,
    changes: tuple[int, ...] = (),
    first: int = 2_000,
    delays: Any = None,
    task: Literal["classification", "regression"] = "classification",
    remarks: tuple[str, ...] = (),
) -> Stream:
    """A stream from plain columns. Raises ValueError when there is nothing to play."""
    if len(table) <= first:
        raise ValueError(f"{len(table)} rows: more than the {first} of the first data set are needed (--first)")
    plain = table.reset_index(drop=True)
    columns = {str(c): _column(plain[c]) for c in plain.columns}
    told = _classes(labels) if task == "classification" else np.asarray(labels, np.float64)
    if len(set(told[:first].tolist())) < 2:
        what = "one class" if task == "classification" else "one value"
        raise ValueError(f"the first {first} rows hold {what} only: give more of them (--first)")
    waits = np.zeros(len(told), np.int64) if delays is None else np.asarray(delays, np.int64)
    return Stream(name, pd.DataFrame(columns), told, waits, changes, first, task, remarks)


def _column(column: pd.Series) -> Any:
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(np.float64).to_numpy()
    return np.array([None if pd.isna(v) else str(v) for v in column], dtype=object)


def label_of(value: Any) -> str:
    """A class as text; whole floats are written as integers."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _classes(labels: Any) -> Array:
    """As the answers will spell them: where all are integers or truth values, they are read as such."""
    text = np.array([label_of(v) for v in labels], dtype=object)
    found = set(text.tolist())
    if {v.lower() for v in found} <= {"true", "false"}:
        spelled = {v: v.lower().capitalize() for v in found}
    elif all(_INTEGER.fullmatch(v) for v in found):
        spelled = {v: str(int(v.partition(".")[0])) for v in found}
    else:
        return text
    return np.array([spelled[v] for v in text], dtype=object)
