"""Columns into a model's matrices, each row judged by itself: the rules of ``domain.features`` for whole columns."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill_serving.domain.features import Layout, Matrices

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(slots=True)
class Verdicts:
    """Which rows are refused: the first error of each, and the feature it is about."""

    error: NDArray[np.object_]
    column: NDArray[np.object_]
    good: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.good = np.ones(len(self.error), bool)

    def refuse(self, rows: NDArray[np.bool_], error: str, name: str) -> None:
        """These rows, unless they are refused already."""
        new = rows & self.good
        if new.any():
            self.error[new], self.column[new] = error, name
            self.good &= ~rows


def read(batch: pa.RecordBatch, layout: Layout) -> tuple[Matrices, Verdicts]:
    """The matrices of the rows that are fine, in order, and the verdicts on all of them."""
    rows = len(batch)
    verdicts = Verdicts(np.full(rows, None, object), np.full(rows, None, object))
    numeric = np.empty((rows, len(layout.numeric)), np.float32)
    categorical = np.empty((rows, len(layout.categorical)), object)
    for index, name in enumerate(layout.numeric):
        numeric[:, index] = _numbers(batch.column(name), name, verdicts)
    for index, name in enumerate(layout.categorical):
        known = None if layout.categories is None else layout.categories.get(name, frozenset())
        categorical[:, index] = _strings(batch.column(name), name, known, verdicts)
    if verdicts.good.all():
        return Matrices(numeric, categorical), verdicts
    return Matrices(numeric[verdicts.good], categorical[verdicts.good]), verdicts


def _numbers(column: pa.Array, name: str, verdicts: Verdicts) -> NDArray[np.float32]:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _parsed(column, name, verdicts)
    elif not _is_number(column.type):
        verdicts.refuse(np.asarray(column.is_valid().to_numpy(zero_copy_only=False)), "wrong_type", name)
        return np.full(len(column), np.nan, np.float32)
    if not pa.types.is_float64(column.type):
        column = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
        column = column.cast(pa.float64(), safe=False)
    wide = column.to_numpy(zero_copy_only=False)  # null becomes NaN
    beyond = np.abs(wide) > _FLOAT32_MAX
    verdicts.refuse(beyond, "not_finite", name)
    return np.where(beyond, np.nan, wide).astype(np.float32)


def _is_number(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(type_)
        or pa.types.is_floating(type_)
        or pa.types.is_boolean(type_)
        or pa.types.is_decimal(type_)
        or pa.types.is_null(type_)
    )


def _parsed(column: pa.Array, name: str, verdicts: Verdicts) -> pa.Array:
    """Text of a CSV file as numbers."""
    text = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, text.type), text)
    try:
        return text.cast(pa.float64())
    except pa.ArrowInvalid:
        cells = [_number(cell) for cell in text.to_pylist()]
        verdicts.refuse(np.array([cell is False for cell in cells]), "wrong_type", name)
        return pa.array([None if cell is False else cell for cell in cells], pa.float64())


def _number(text: str | None) -> float | bool | None:
    """False for what is no number."""
    if text is None:
        return None
    if text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    try:
        return float(text)
    except ValueError:
        return False


def _strings(column: pa.Array, name: str, known: frozenset[str] | None, verdicts: Verdicts) -> NDArray[np.object_]:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    kind = column.type.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        verdicts.refuse(np.asarray(column.is_valid().to_numpy(zero_copy_only=False)), "wrong_type", name)
        return np.full(len(column), "", object)
    values = [value or "" for value in column.dictionary.to_pylist()]
    codes = column.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    if known is not None:
        strange = np.array([bool(value) and value not in known for value in values] + [False])
        if strange.any():
            verdicts.refuse(strange[codes], "unknown_category", name)
    texts: NDArray[np.object_] = np.array([*values, ""], object)[codes]
    return texts
