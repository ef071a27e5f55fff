"""Cells to numbers and categories, with a count of every change."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MISSING_MARKERS = ("NA", "N/A", "#N/A", "n/a", "null", "NULL")
"""Text that means "no value", beside the empty cell."""
FLOAT32_MAX = float(np.finfo(np.float32).max)
"""Models compute in float32: a larger number would become infinite there."""
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Numbers:
    """A numeric column: NaN where missing or unparsable, and which cells held inf, nan or a number out of range."""

    values: Floats
    not_finite: Mask
    present: int
    unparsable: int
    changes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Texts:
    """A text column, trimmed, null where missing."""

    values: pa.Array
    changes: Counter[str] = field(default_factory=Counter)


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One contiguous array, dictionaries decoded."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if isinstance(column, pa.ChunkedArray):
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return column


def is_text(type_: pa.DataType) -> bool:
    """Whether cells are strings."""
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def is_number(type_: pa.DataType) -> bool:
    """Whether cells are typed numbers or booleans."""
    return bool(
        pa.types.is_integer(type_)
        or pa.types.is_floating(type_)
        or pa.types.is_decimal(type_)
        or pa.types.is_boolean(type_)
        or pa.types.is_null(type_)
    )


def is_usable(type_: pa.DataType) -> bool:
    """Whether cells can become features at all (nested values and bytes cannot)."""
    return is_text(type_) or is_number(type_) or bool(pa.types.is_temporal(type_))


def texts(column: pa.Array) -> Texts:
    """Strings of any usable column. Whole floats lose their ".0", so that 1, 1.0 and "1" are one category."""
    changes: Counter[str] = Counter()
    if not is_text(column.type):
        changes["number_to_text"] = len(column) - column.null_count if is_number(column.type) else 0
        return Texts(_written(column), +changes)
    column = column.cast(pa.string())
    trimmed = pc.utf8_trim_whitespace(column)
    changes["trimmed"] = pc.sum(pc.not_equal(trimmed, column)).as_py() or 0
    marked = pc.is_in(trimmed, value_set=pa.array(MISSING_MARKERS))
    changes["missing_marker"] = pc.sum(marked).as_py() or 0
    empty = pc.or_(marked, pc.fill_null(pc.equal(trimmed, ""), False))
    return Texts(pc.if_else(empty, pa.scalar(None, pa.string()), trimmed), +changes)


def _written(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type):
        values = column.cast(pa.float64())
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
        integers = pc.if_else(pc.fill_null(whole, False), values, None).cast(pa.int64()).cast(pa.string())
        missing = pc.is_nan(values)
        return pc.if_else(missing, None, pc.coalesce(integers, values.cast(pa.string())))
    return column.cast(pa.string())


def numbers(column: pa.Array) -> Numbers:
    """Floats of any usable column. A typed NaN is a missing value; the text "nan" is not a number."""
    changes: Counter[str] = Counter()
    if is_text(column.type):
        return _parsed(texts(column))
    present = len(column) - column.null_count
    if not is_number(column.type):
        return Numbers(np.full(len(column), np.nan), np.zeros(len(column), bool), present, present)
    if pa.types.is_boolean(column.type):
        changes["boolean_to_number"] = present
        column = column.cast(pa.int8())
    values = column.cast(pa.float64(), safe=False)
    nan = pc.sum(pc.is_nan(values)).as_py() or 0
    changes["nan_to_missing"] = nan
    array = values.to_numpy(zero_copy_only=False).astype(np.float64)
    return Numbers(*_bounded(array), present - nan, 0, +changes)


def _parsed(text: Texts) -> Numbers:
    changes = Counter(text.changes)
    present = len(text.values) - text.values.null_count
    try:
        array = text.values.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
        unparsable = 0
    except pa.ArrowInvalid:
        array, unparsable, booleans = _parsed_one_by_one(text.values)
        changes["unparsable_number"] = unparsable
        changes["boolean_to_number"] = booleans
    array, not_finite = _bounded(array)
    if np.isnan(array).sum() - not_finite.sum() > text.values.null_count + unparsable:
        spelled = pc.match_substring_regex(text.values, r"^[+-]?nan$", ignore_case=True)
        not_finite |= pc.fill_null(spelled, False).to_numpy(zero_copy_only=False)
    return Numbers(array, not_finite, present, unparsable, +changes)


def _parsed_one_by_one(text: pa.Array) -> tuple[Floats, int, int]:
    encoded = pc.dictionary_encode(text)
    values = [_number(word) for word in encoded.dictionary.to_pylist()]
    booleans = np.array([word.lower() in ("true", "false") for word in encoded.dictionary.to_pylist()] + [False])
    # The last place stands for missing cells, whose code is -1.
    table = np.array([np.nan if value is None else value for value in values] + [np.nan])
    wrong = np.array([value is None for value in values] + [False])
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return table[codes], int(wrong[codes].sum()), int(booleans[codes].sum())


def _number(word: str) -> float | None:
    if word.lower() in ("true", "false"):
        return float(word.lower() == "true")
    if "_" in word:  # Python reads 1_000, nobody means it in data
        return None
    try:
        return float(word)
    except ValueError:
        return None


def _bounded(array: Floats) -> tuple[Floats, Mask]:
    with np.errstate(invalid="ignore"):
        beyond = np.abs(array) > FLOAT32_MAX
    return np.where(beyond, np.nan, array), beyond
