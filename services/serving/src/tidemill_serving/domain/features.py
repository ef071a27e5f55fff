"""Rows as they come (JSON objects) into the two matrices of a model, each row judged by itself."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Layout:
    """What a model reads: columns in order, and the categories it knows (None: any)."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    categories: Mapping[str, frozenset[str]] | None


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


Row = Mapping[str, Any]


def matrices(rows: Sequence[Row], layout: Layout) -> tuple[Matrices, list[Refusal | None]]:
    """The matrices of the rows that are fine, in order, and for each row None or why it is not."""
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
    return value


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
