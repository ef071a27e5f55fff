"""A few rows of a window as bins: what tells how its columns hang together."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill_monitoring.domain.reference import MISSING, OTHER, Reference, ReferenceColumn, category_key

ROWS = 500
Codes = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Sample:
    """At most ``ROWS`` rows, each row of the window as likely as any other (Vitter's algorithm R, 1985).

    Which ones follows from their number in the window, so a repetition after a crash draws the same.
    """

    seen: int = 0
    rows: list[bytes] = field(default_factory=list)
    """One byte a sampled column of the reference: its bin, or ``OTHER`` or ``MISSING``."""

    def add(self, reference: Reference, cells: Sequence[Any], count: int) -> None:
        """Take ``count`` rows, given as the cells of every column."""
        if reference.sample is None:
            return
        places = [(at, place) for at in range(count) if (place := _place(self.seen + at)) < ROWS]
        self.seen += count
        if not places:
            return
        kept = [at for at, _ in places]
        columns = [coded(reference.columns[c], _picked(cells[c], kept)) for c in reference.sample.columns]
        for (_, place), row in zip(places, np.column_stack(columns), strict=True):
            if place < len(self.rows):
                self.rows[place] = row.tobytes()
            else:
                self.rows.append(row.tobytes())

    def merge(self, other: "Sample") -> None:
        """Add another window's rows: of both as many as their windows have of all rows."""
        seen = self.seen + other.seen
        if len(self.rows) + len(other.rows) > ROWS:
            mine = round(ROWS * self.seen / seen)
            self.rows, others = _thinned(self.rows, mine), _thinned(other.rows, ROWS - mine)
        else:
            others = other.rows
        self.rows, self.seen = [*self.rows, *others], seen

    @property
    def codes(self) -> Codes:
        """Bins [rows, sampled columns]."""
        return np.frombuffer(b"".join(self.rows), np.uint8).reshape(len(self.rows), -1)

    def dump(self) -> list[Any]:
        """As JSON values."""
        return [self.seen, len(self.rows), b64encode(b"".join(self.rows)).decode()]

    @classmethod
    def load(cls, dumped: Sequence[Any]) -> "Sample":
        """What ``dump`` gave, back."""
        seen, count, text = dumped
        data = b64decode(text)
        width = len(data) // count if count else 0
        return cls(seen, [data[at : at + width] for at in range(0, count * width, width)] if width else [])


def coded(column: ReferenceColumn, cells: npt.NDArray[Any] | list[Any]) -> Codes:
    """The bins of cells [n]: numbers by the edges, categories by their position in the reference."""
    if isinstance(cells, np.ndarray):
        places = np.minimum(np.searchsorted(column.edges, cells, side="right"), OTHER - 1)
        return np.where(np.isnan(cells), MISSING, places).astype(np.uint8)
    return np.array([_category(column, cell) for cell in cells], np.uint8)


def _category(column: ReferenceColumn, cell: Any) -> int:
    if cell is None or cell == "":
        return MISSING
    return min(column.categories.get(category_key(cell), OTHER), OTHER)


def _picked(cells: Any, kept: list[int]) -> Any:
    return cells[kept] if isinstance(cells, np.ndarray) else [cells[at] for at in kept]


def _place(number: int) -> int:
    """Where the row with this number in the window goes; at ``ROWS`` or above: nowhere."""
    if number < ROWS:
        return number
    x = (number * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF  # splitmix64 (Steele, Lea & Flood 2014)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (x ^ (x >> 31)) % (number + 1)


def _thinned(rows: list[bytes], count: int) -> list[bytes]:
    """``count`` of them at even distances."""
    return [rows[at * len(rows) // count] for at in range(min(count, len(rows)))] if count else []
