"""The cells of a request as they came: the requests that share a call become arrays together, not one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill_serving.domain.features import Layout, Matrices, Row, encodable, finite, matrices
from tidemill_serving.domain.tensor import BadRequest


@dataclass(frozen=True, slots=True)
class Cells:
    """``count`` rows in row-major order and in the layout's order of columns.

    ``numeric`` holds numbers and None alone, ``categorical`` strings and None; whether the model takes their values has
    not been looked at.
    """

    count: int
    numeric: list[Any]
    categorical: list[Any]

    def __len__(self) -> int:
        return self.count

    def rows(self, layout: Layout) -> list[Row]:
        """The same as rows, which the rules for single rows read."""
        k, m = len(layout.numeric), len(layout.categorical)
        return [
            dict(zip(layout.numeric, self.numeric[i * k : i * k + k], strict=True))
            | dict(zip(layout.categorical, self.categorical[i * m : i * m + m], strict=True))
            for i in range(self.count)
        ]


Part = Cells | Matrices
"""What one request brings into a call."""


def together(parts: Sequence[Part], layout: Layout) -> Matrices | None:
    """The matrices of all parts, in order. None when a cell of some part is not acceptable."""
    cells = [part for part in parts if isinstance(part, Cells)]
    joined = _joined(cells, layout)
    if joined is None or len(cells) == len(parts):
        return joined
    found: list[Matrices] = []
    start = 0
    for part in parts:
        if isinstance(part, Cells):
            part, start = joined[start : start + len(part)], start + len(part)
        found.append(part)
    if len(found) == 1:
        return found[0]
    return Matrices(np.concatenate([p.numeric for p in found]), np.concatenate([p.categorical for p in found]))


def alone(part: Part, layout: Layout) -> Matrices:
    """One part's matrices. Raises BadRequest for the first row that is not acceptable."""
    if isinstance(part, Matrices):
        return part
    at_once = _joined([part], layout)
    return checked(part.rows(layout), layout) if at_once is None else at_once


def checked(rows: Sequence[Row], layout: Layout) -> Matrices:
    """By the rules for single rows. Raises BadRequest: the protocol has no answer for part of a request."""
    found, refusals = matrices(rows, layout)
    for number, refusal in enumerate(refusals):
        if refusal:
            raise BadRequest(f"row {number}: {refusal.message}")
    return found


def _joined(cells: Sequence[Cells], layout: Layout) -> Matrices | None:
    count = sum(each.count for each in cells)
    strings = _strings(list(chain.from_iterable(each.categorical for each in cells)), count, layout)
    if strings is None:
        return None
    try:
        numbers = finite(list(chain.from_iterable(each.numeric for each in cells)), count, len(layout.numeric))
    except OverflowError:
        return None
    return None if numbers is None else Matrices(numbers, strings)


def _strings(flat: list[Any], count: int, layout: Layout) -> NDArray[Any] | None:
    """The matrix, or None when some category is unknown or is no text that UTF-8 can write."""
    if None in flat:
        flat = [value or "" for value in flat]
    width = len(layout.categorical)
    if layout.categories is None:
        if not encodable("".join(flat)):
            return None
    else:
        for index, name in enumerate(layout.categorical):
            known = layout.categories.get(name, frozenset())
            column = flat[index::width]
            if not known.issuperset(column) and not (known | {""}).issuperset(column):
                return None
    strings = np.empty(len(flat), object)
    strings[:] = flat
    return strings.reshape(count, width)
