"""The latest cells of every column in a few sums: enough to tell broken data from a changed world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill_monitoring.domain.reference import ReferenceColumn, category_key

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Vitals:
    """Sums over the cells of one column."""

    rows: int
    missing: int = 0
    unseen: int = 0
    """Categories the reference does not list."""
    sizes: int = 0
    """Numbers other than zero."""
    logs: float = 0.0
    """Sum of log10 of their absolute values, and of its squares."""
    squares: float = 0.0
    longest: int = 0
    """Cells in a row that were the same number."""


@dataclass(slots=True)
class NumericVitals:
    """The sums of all numeric columns, one row of ``table`` each: missing, sizes, logs, squares; and their runs."""

    table: Array
    last: Array
    """The last number of each column, NaN before any."""
    run: Array
    """Cells in a row that were ``last``."""
    longest: Array
    """The longest run that reached the beginning or the end of a stretch of cells that was added."""

    @classmethod
    def over(cls, columns: int) -> "NumericVitals":
        """Nothing seen yet."""
        return cls(np.zeros((4, columns)), np.full(columns, np.nan), np.zeros(columns), np.zeros(columns))

    def add(self, cells: Array) -> None:
        """Take rows [rows, columns]; NaN is missing. Together for all columns: a call costs more than 30 numbers."""
        gaps = np.isnan(cells)
        sized = ~gaps & (cells != 0)
        logs = np.log10(np.abs(cells), out=np.zeros_like(cells), where=sized)
        self.table += [gaps.sum(axis=0), sized.sum(axis=0), logs.sum(axis=0), (logs * logs).sum(axis=0)]
        rows = len(cells)
        changes = cells[1:] != cells[:-1]
        changed = changes.any(axis=0) if rows > 1 else np.zeros(cells.shape[1], bool)
        first = np.where(changed, changes.argmax(axis=0) + 1, rows) if rows > 1 else np.ones(cells.shape[1])
        tail = np.where(changed, changes[::-1].argmax(axis=0) + 1, rows) if rows > 1 else first
        lead = np.where(cells[0] == self.last, self.run + first, first)
        self.longest = np.maximum(self.longest, np.maximum(lead, tail))
        self.run = np.where(changed, tail, lead)
        self.last = cells[-1].copy()

    def of(self, column: int, rows: int) -> Vitals:
        """One column's."""
        missing, sizes, logs, squares = self.table[:, column].tolist()
        return Vitals(rows, int(missing), 0, int(sizes), logs, squares, int(self.longest[column]))

    def empty(self) -> None:
        """Begin anew; runs of equal numbers go on."""
        self.table[:] = 0
        self.longest = self.run.copy()

    def dump(self) -> list[Any]:
        """As JSON values."""
        last = [None if np.isnan(v) else v for v in self.last.tolist()]
        return [self.table.tolist(), last, self.run.tolist(), self.longest.tolist()]

    @classmethod
    def load(cls, dumped: list[Any]) -> "NumericVitals":
        """What ``dump`` gave, back."""
        table, last, run, longest = dumped
        return cls(np.array(table, np.float64), np.array(last, np.float64), np.array(run), np.array(longest))


def tally(column: ReferenceColumn, counted: Mapping[Any, int]) -> Sequence[int]:
    """Missing cells, and cells of categories the reference does not list."""
    missing = unseen = 0
    for value, rows in counted.items():
        if value is None or value == "":
            missing += rows
        elif category_key(value) not in column.categories:
            unseen += rows
    return missing, unseen
