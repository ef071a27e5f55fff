"""Rows as they come (JSON objects) into the two matrices of a model, each row judged by itself.

A batch in which all is well is converted at once, column by column; only when something in it is not are its rows
looked at one by one, by the same rules.
"""

import contextlib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_NUMERIC_TYPES = {float, int, bool, type(None)}
_STRING_TYPES = {str, type(None)}


@dataclass(frozen=True)
class Layout:
    """What a model reads: columns in order, and the categories it knows (None: any)."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    categories: Mapping[str, frozenset[str]] | None

    @cached_property
    def texts(self) -> "tuple[Mapping[str | None, str], ...] | None":
        """For each categorical column the text a matrix has for a cell: one object a category, not one a cell."""
        if self.categories is None:
            return None
        known = [self.categories.get(name, frozenset()) for name in self.categorical]
        return tuple({None: "", "": "", **{category: category for category in some}} for some in known)

    @cached_property
    def clashing(self) -> bool:
        """Whether a column is named as one of the matrices."""
        return not {"numeric", "categorical"}.isdisjoint((*self.numeric, *self.categorical))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row cannot be answered."""

    error: str
    field: str | None
    message: str


@dataclass(frozen=True)
class Matrices:
    """``numeric`` [n, k] float32 with NaN for missing, ``categorical`` [n, m] str objects with "" for missing."""

    numeric: NDArray[np.float32]
    categorical: NDArray[Any]

    def __len__(self) -> int:
        return len(self.numeric)

    def __getitem__(self, rows: slice) -> "Matrices":
        return Matrices(self.numeric[rows], self.categorical[rows])


def stacked(parts: Sequence[Matrices]) -> Matrices:
    """The rows of one or more parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Matrices(np.concatenate([p.numeric for p in parts]), np.concatenate([p.categorical for p in parts]))


Row = Mapping[str, Any]
Cells = tuple[Any, ...]
"""A row in the layout's order, numeric before categorical: each a float or None, a str or None."""


def matrices(rows: Sequence[Row | Cells], layout: Layout) -> tuple[Matrices, list[Refusal | None]]:
    """The matrices of the rows that are fine, in order, and for each row None or why it is not."""
    if rows and set(map(type, rows)) == {tuple}:
        found = _of_cells(rows, layout)  # type: ignore[arg-type]
    else:
        found = _of_names([_named(row, layout) for row in rows], layout)
    if found is not None:
        return found, [None] * len(rows)
    return _one_by_one([_named(row, layout) for row in rows], layout)


def column_matrices(columns: Sequence[Sequence[Any]], layout: Layout) -> Matrices | None:
    """The matrices of columns in the layout's order, all of one length: floats or None, strings or None.

    None when a cell is not acceptable: then the rows must be looked at one by one.
    """
    n, k = len(columns[0]), len(layout.numeric)
    numbers = finite(list(chain.from_iterable(columns[:k])), k, n)
    strings = _texts(columns[k:], layout)
    if numbers is None or strings is None:
        return None
    texts = np.array(strings, object).reshape(len(strings), n)
    return Matrices(np.ascontiguousarray(numbers.T), np.ascontiguousarray(texts.T))


def _texts(columns: Sequence[Sequence[str | None]], layout: Layout) -> list[list[str]] | None:
    """The same cells as a matrix has them, or None when the model does not know one of them."""
    if layout.texts is None:
        found = [[cell or "" for cell in cells] for cells in columns]
        return found if all(encodable("".join(cells)) for cells in found) else None
    try:
        return [list(map(texts.__getitem__, cells)) for cells, texts in zip(columns, layout.texts, strict=True)]
    except KeyError:
        return None


def _of_cells(rows: Sequence[Cells], layout: Layout) -> Matrices | None:
    """The matrices of rows of cells, or None when a cell is not acceptable."""
    n, k, m = len(rows), len(layout.numeric), len(layout.categorical)
    cells = list(chain.from_iterable(rows))
    strings = _known([cells[k + column :: k + m] for column in range(m)], n, layout)
    for column in reversed(range(m)):  # what is left are the numbers
        del cells[k + column :: k + column + 1]
    numbers = finite(cells, n, k)
    return None if numbers is None or strings is None else Matrices(numbers, strings)


def _of_names(rows: Sequence[Row], layout: Layout) -> Matrices | None:
    """The same of rows of names and values."""
    numbers, strings = _numbers_at_once(rows, layout.numeric), _strings_at_once(rows, layout)
    return None if numbers is None or strings is None else Matrices(numbers, strings)


def _named(row: Row | Cells, layout: Layout) -> Row:
    return dict(zip((*layout.numeric, *layout.categorical), row, strict=True)) if type(row) is tuple else row  # type: ignore[return-value]


def _one_by_one(rows: Sequence[Row], layout: Layout) -> tuple[Matrices, list[Refusal | None]]:
    numbers: list[list[float]] = []
    strings: list[list[str]] = []
    refusals: list[Refusal | None] = []
    for row in rows:
        try:
            number = [_number(row, name) for name in layout.numeric]
            string = [_string(row, name, layout.categories) for name in layout.categorical]
        except _Refused as refused:
            refusals.append(refused.refusal)
        else:
            numbers.append(number)
            strings.append(string)
            refusals.append(None)
    n = len(numbers)
    return (
        Matrices(
            np.array(numbers, np.float32).reshape(n, len(layout.numeric)),
            np.array(strings, object).reshape(n, len(layout.categorical)),
        ),
        refusals,
    )


def _picker(names: Sequence[str]) -> Callable[[Row], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda row: tuple(row[name] for name in names)


def _numbers_at_once(rows: Sequence[Row], names: Sequence[str]) -> NDArray[np.float32] | None:
    """The matrix, or None when some cell is not acceptable."""
    try:
        flat = list(chain.from_iterable(map(_picker(names), rows)))
        return finite(flat, len(rows), len(names)) if set(map(type, flat)) <= _NUMERIC_TYPES else None
    except (KeyError, OverflowError):
        return None


def finite(flat: list[Any], rows: int, width: int) -> NDArray[np.float32] | None:
    """Numbers and None, row after row, as a matrix; None when one of them is no finite float32.

    Raises OverflowError: an integer beyond every float.
    """
    found = np.empty(len(flat), np.float32)
    with contextlib.suppress(struct.error, OverflowError):  # there is a null
        # Half the time of np.array, which looks for a common type.
        struct.pack_into(f"{len(flat)}f", found.data, 0, *flat)
        # NaN compares as false; what is as large as the largest may have been rounded to it.
        if int(np.count_nonzero(np.abs(found) < _FLOAT32_MAX)) == len(flat):
            return found.reshape(rows, width)
    return _with_missing(flat, rows, width)


def _with_missing(flat: list[Any], rows: int, width: int) -> NDArray[np.float32] | None:
    wide = np.array(flat, np.float64)  # None becomes NaN
    # A NaN among them compares as false, and so counts as missing only if there is a null to account for it.
    bad = len(flat) - int(np.count_nonzero(np.abs(wide) <= _FLOAT32_MAX))
    if bad and bad != flat.count(None):
        return None
    return wide.astype(np.float32).reshape(rows, width)


def _strings_at_once(rows: Sequence[Row], layout: Layout) -> NDArray[Any] | None:
    """The matrix, or None when some cell is not acceptable."""
    try:
        flat = list(chain.from_iterable(map(_picker(layout.categorical), rows)))
    except KeyError:
        return None
    if not set(map(type, flat)) <= _STRING_TYPES:
        return None
    m = len(layout.categorical)
    return _known([flat[column::m] for column in range(m)], len(rows), layout)


def _known(columns: Sequence[Sequence[str | None]], rows: int, layout: Layout) -> NDArray[Any] | None:
    """The matrix of columns of strings, or None when the model does not know one of them."""
    strings = _texts(columns, layout)
    if strings is None:
        return None
    flat: list[str] = [""] * (rows * len(strings))
    for column, texts in enumerate(strings):
        flat[column :: len(strings)] = texts
    return np.fromiter(flat, object, len(flat)).reshape(rows, len(strings))


def encodable(text: str) -> bool:
    """False for half a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Refused(Exception):
    def __init__(self, error: str, field: str, message: str) -> None:
        self.refusal = Refusal(error, field, message)


def _number(row: Row, name: str) -> float:
    try:
        value = row[name]
    except KeyError:
        raise _Refused("missing_feature", name, f"feature {name!r} is missing; send null if it is unknown") from None
    if type(value) is float:
        if math.isfinite(value) and -_FLOAT32_MAX <= value <= _FLOAT32_MAX:
            return value
        raise _Refused("not_finite", name, f"feature {name!r} must be a finite number in the range of float32, or null")
    if value is None:
        return math.nan
    if isinstance(value, (int, bool)):
        if -_FLOAT32_MAX <= value <= _FLOAT32_MAX:
            return float(value)
        raise _Refused("not_finite", name, f"feature {name!r} is beyond the range of float32")
    raise _Refused("wrong_type", name, f"feature {name!r} must be a number or null, not {_kind(value)}")


def _string(row: Row, name: str, categories: Mapping[str, frozenset[str]] | None) -> str:
    try:
        value = row[name]
    except KeyError:
        raise _Refused("missing_feature", name, f"feature {name!r} is missing; send null if it is unknown") from None
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _Refused("wrong_type", name, f"feature {name!r} must be a string or null, not {_kind(value)}")
    if categories is not None and value and value not in categories.get(name, frozenset()):
        raise _Refused("unknown_category", name, f"feature {name!r}: the model was trained without this category")
    if not encodable(value):
        raise _Refused("wrong_type", name, f"feature {name!r} is not valid Unicode")
    return value


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
