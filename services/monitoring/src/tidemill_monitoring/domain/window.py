"""A tumbling window of production rows, kept as counts: its memory does not grow with its rows."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill_monitoring.domain.counting import Counted, below, by_value
from tidemill_monitoring.domain.expected import Expected
from tidemill_monitoring.domain.reference import Reference, ReferenceColumn, ReferenceSample, category_key
from tidemill_monitoring.domain.sample import Sample

_MANY = 20_000
"""Rows from which on columns are counted side by side, on as many processors as there are."""

Cells = npt.NDArray[Any] | list[Any] | Counted
"""Of one column: numbers as an array (NaN is missing), categories as a list or an Arrow array."""


def cells_of(column: ReferenceColumn, values: Sequence[Any]) -> Cells:
    """Numbers or None as an array, categories as they are."""
    if column.kind == "categorical":
        return list(values)
    return np.array([np.nan if v is None or isinstance(v, str) else v for v in values], np.float64)


@dataclass(slots=True)
class ColumnCounts:
    """Counts of one column, bin by bin as in its reference."""

    counts: list[int]
    missing: int = 0
    unseen: int = 0
    """Values the reference does not have: a category it does not list, a number outside its range."""

    def add(self, column: ReferenceColumn, values: Sequence[Any]) -> None:
        """Count cells: numbers or None for numeric columns, strings or None for categorical ones."""
        self.count(column, cells_of(column, values))

    def count(self, column: ReferenceColumn, cells: Cells) -> None:
        """Count cells."""
        if isinstance(cells, np.ndarray):
            self.add_numbers(column, cells)
        else:
            self.add_categories(column, by_value(cells, tuple(column.categories)))

    def add_numbers(self, column: ReferenceColumn, values: npt.NDArray[Any]) -> None:
        """Count an array of numbers; NaN is missing. Bin i holds edges[i-1] <= x < edges[i]."""
        low, high = column.minimum, column.maximum
        limits = [] if low is None or high is None else [low, np.nextafter(high, np.inf)]
        *found, finite = below(values, np.array([*column.edges.tolist(), *limits, np.inf])).tolist()
        # Most windows are told by this that nothing is missing, without another look at their values.
        missing = 0 if finite == len(values) else int(np.count_nonzero(np.isnan(values)))
        steps = [0, *found[: len(column.edges)], len(values) - missing]
        self.counts = [
            before + upper - lower for before, lower, upper in zip(self.counts, steps, steps[1:], strict=False)
        ]
        self.missing += missing
        if limits:
            self.unseen += found[-2] + len(values) - missing - found[-1]

    def add_categories(self, column: ReferenceColumn, counted: Mapping[Any, int]) -> None:
        """Count cells by value; None and "" are missing."""
        for value, rows in counted.items():
            if value is None or value == "":
                self.missing += rows
            elif (position := column.categories.get(category_key(value))) is None:
                self.unseen += rows
            else:
                self.counts[position] += rows

    def merge(self, other: "ColumnCounts") -> None:
        """Add what another window counted against the same reference."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.missing += other.missing
        self.unseen += other.unseen


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
    muted: list[str] = field(default_factory=list)
    """Columns that were broken in some of the rows: they are not judged for drift."""
    expected: Expected = field(default_factory=Expected)
    """What the model's own probabilities say of its answers."""
    sample: Sample = field(default_factory=Sample)
    """Some of the rows."""

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
        self.count(
            reference, [cells_of(c, [r.get(c.name) for r in rows]) for c in reference.columns], answers, times, first
        )

    def count(
        self, reference: Reference, cells: Sequence[Cells], answers: Sequence[Any], times: Sequence[float], first: int
    ) -> None:
        """The same with cells by column."""
        if not times:
            return
        if not self.rows:
            self.first, self.start, self.end = first, times[0], times[0]
        self.start, self.end = min(self.start, min(times)), max(self.end, max(times))
        self.last = first + len(times) - 1
        self.tally(reference, cells, len(times))
        self.sample.add(reference, cells, len(times))
        self.prediction.add(reference.prediction, answers)

    def tally(self, reference: Reference, cells: Sequence[Cells], rows: int) -> None:
        """Count cells by column, and nothing else of their rows."""
        tasks = list(zip(self.columns, reference.columns, cells, strict=True))
        if rows < _MANY:
            _count(tasks)
        else:
            # Categories, which take longest, are the first to be popped: so no processor waits for another at the end.
            tasks.sort(key=lambda task: task[1].kind, reverse=True)
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                for done in [threads.submit(_count, tasks) for _ in range(os.cpu_count() or 1)]:
                    done.result()
        self.rows += rows

    def merge(self, other: "RowWindow") -> None:
        """Add the rows of another window over the same reference: the same counts as if all had come here."""
        if not other.rows:
            return
        for mine, theirs in zip(self.columns, other.columns, strict=True):
            mine.merge(theirs)
        self.prediction.merge(other.prediction)
        firsts = [w for w in (self, other) if w.rows]
        self.first, self.start = min(w.first for w in firsts), min(w.start for w in firsts)
        self.last, self.end = max(w.last for w in firsts), max(w.end for w in firsts)
        self.rows += other.rows
        self.mute(other.muted)
        self.expected.merge(other.expected)
        self.sample.merge(other.sample)

    def mute(self, columns: Iterable[str]) -> None:
        """Judge these columns no more."""
        self.muted = sorted({*self.muted, *columns})

    def as_reference(self, reference: Reference, name: str) -> Reference:
        """This window as what a later one is compared with."""
        columns = [
            _as_reference(c, counts, self.rows) for c, counts in zip(reference.columns, self.columns, strict=True)
        ]
        prediction = _as_reference(reference.prediction, self.prediction, self.rows)
        digest = f"{reference.digest}:{name}:{self.first}"
        known = reference.sample if self.sample.rows else None
        sample = known and ReferenceSample(known.columns, self.sample.codes)
        return replace(reference, digest=digest, columns=tuple(columns), prediction=prediction, sample=sample)

    def dump(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "columns": [[c.counts, c.missing, c.unseen] for c in self.columns],
            "prediction": [self.prediction.counts, self.prediction.missing, self.prediction.unseen],
            "place": [self.rows, self.first, self.last, self.start, self.end, self.muted],
            "expected": self.expected.dump(),
            "sample": self.sample.dump(),
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> "RowWindow":
        """What ``dump`` gave, back."""
        return cls(
            [ColumnCounts(*values) for values in dumped["columns"]],
            ColumnCounts(*dumped["prediction"]),
            *[*dumped["place"], Expected.load(dumped["expected"]), Sample.load(dumped.get("sample", (0, 0, "")))],
        )


def _count(tasks: list[tuple[ColumnCounts, ReferenceColumn, Cells]]) -> None:
    """Count columns until none is left. Threads share the list: one that hands back each column by itself wakes another
    for the interpreter's lock each time, which takes as long as counting a block does."""
    while tasks:
        try:
            counts, column, cells = tasks.pop()
        except IndexError:  # another thread was quicker
            return
        counts.count(column, cells)


def _as_reference(column: ReferenceColumn, counts: ColumnCounts, rows: int) -> ReferenceColumn:
    found = np.asarray(counts.counts, np.float64)
    return replace(column, rows=rows, missing=counts.missing, counts=found, outside=counts.unseen)
