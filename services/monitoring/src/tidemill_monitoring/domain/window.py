"""A tumbling window of production rows, kept as counts: its memory does not grow with its rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill_monitoring.domain.reference import Reference, ReferenceColumn, category_key


@dataclass(slots=True)
class ColumnCounts:
    """Counts of one column, bin by bin as in its reference."""

    counts: list[int]
    missing: int = 0
    unseen: int = 0
    """Values the reference does not have: a category it does not list, a number outside its range."""

    def add(self, column: ReferenceColumn, values: Sequence[Any]) -> None:
        """Count cells: numbers or None for numeric columns, strings or None for categorical ones."""
        if column.kind == "numeric":
            self.add_numbers(
                column, np.array([np.nan if v is None or isinstance(v, str) else v for v in values], np.float64)
            )
        else:
            self.add_categories(column, Counter(values))

    def add_numbers(self, column: ReferenceColumn, values: npt.NDArray[Any]) -> None:
        """Count an array of numbers; NaN is missing. Bin i holds edges[i-1] <= x < edges[i].

        One comparison a bin reads faster than a search a value: 20 bins of 100 000 values take 0.4 ms against 2.5.
        """
        missing = int(np.count_nonzero(np.isnan(values)))
        below = [int(np.count_nonzero(values < edge)) for edge in column.edges]
        added = np.diff([0, *below, len(values) - missing])
        self.counts = [before + int(more) for before, more in zip(self.counts, added, strict=True)]
        self.missing += missing
        if column.minimum is not None and column.maximum is not None:
            self.unseen += int(np.count_nonzero(values < column.minimum) + np.count_nonzero(values > column.maximum))

    def add_categories(self, column: ReferenceColumn, counted: Mapping[Any, int]) -> None:
        """Count cells by value; None and "" are missing."""
        for value, rows in counted.items():
            if value is None or value == "":
                self.missing += rows
            elif (position := column.categories.get(category_key(value))) is None:
                self.unseen += rows
            else:
                self.counts[position] += rows


@dataclass(slots=True)
class RowWindow:
    """The rows since the last window closed: cells, answers, and where the window lies."""

    columns: list[ColumnCounts]
    prediction: ColumnCounts
    rows: int = 0
    first: int = 0
    last: int = 0
    start: float = 0.0
    end: float = 0.0
    """Earliest and latest event time, seconds."""

    @classmethod
    def empty(cls, reference: Reference) -> "RowWindow":
        """A window that compares with ``reference``."""
        columns = [ColumnCounts([0] * len(c.counts)) for c in reference.columns]
        return cls(columns, ColumnCounts([0] * len(reference.prediction.counts)))

    def add(
        self,
        reference: Reference,
        rows: Sequence[dict[str, Any]],
        answers: Sequence[Any],
        times: Sequence[float],
        first: int,
    ) -> None:
        """Count rows of features with the model's answers; ``first`` is the number of the first of them."""
        if not rows:
            return
        for counts, column in zip(self.columns, reference.columns, strict=True):
            counts.add(column, [row.get(column.name) for row in rows])
        self.prediction.add(reference.prediction, answers)
        if not self.rows:
            self.first, self.start, self.end = first, times[0], times[0]
        self.start, self.end = min(self.start, *times), max(self.end, *times)
        self.rows += len(rows)
        self.last = first + len(rows) - 1

    def dump(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "columns": [[c.counts, c.missing, c.unseen] for c in self.columns],
            "prediction": [self.prediction.counts, self.prediction.missing, self.prediction.unseen],
            "place": [self.rows, self.first, self.last, self.start, self.end],
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> "RowWindow":
        """What ``dump`` gave, back."""
        return cls(
            [ColumnCounts(*values) for values in dumped["columns"]],
            ColumnCounts(*dumped["prediction"]),
            *dumped["place"],
        )
