"""How many of many numbers lie below each of a few thresholds: the inner loop of a window check."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tidemill_monitoring.domain.codebook import codebook

_BLOCK = 8_192
"""Numbers compared with all thresholds while they lie in the processor's cache."""
_ROUNDS = 255
"""Blocks that may be added up in bytes."""
_MANY = 4_000
"""Fewer strings than this are counted in Arrow's hash table."""
_STRINGS = frozenset({"string", "large_string"})
_SEARCHED = 2_000
"""Fewer values than this are searched for their bins."""


class Counted(Protocol):
    """Categories as an Arrow array."""

    type: Any
    null_count: int

    def __len__(self) -> int: ...

    def cast(self, target_type: Any) -> Any:
        """The same values as another type."""

    def drop_null(self) -> Any:
        """The array without its nulls."""

    def value_counts(self) -> Any:
        """A struct array of ``values`` and ``counts``."""


def below(values: npt.NDArray[Any], thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Of numbers [n] those smaller than each of [k] thresholds; NaN is smaller than none.

    Of many values, one comparison a threshold is faster than a search a value, and than compiled histograms with
    edges of any width: 100 000 values and 21 thresholds take 0.3 ms, a search 2.5 ms.
    """
    if len(values) < _SEARCHED:
        known = np.sort(values[~np.isnan(values)])
        return np.asarray(np.searchsorted(known, thresholds, side="left"), np.int64)
    size = -(-len(values) // -(-len(values) // _BLOCK))
    limits = thresholds[:, None]
    smaller = np.empty((len(thresholds), size), np.bool_)
    sums = np.zeros((len(thresholds), size), np.uint8)
    found = np.zeros(len(thresholds), np.int64)
    for number, at in enumerate(range(0, len(values), size), 1):
        block = values[at : at + size]
        part = smaller[:, : len(block)]
        np.less(block, limits, out=part)
        sums[:, : len(block)] += part.view(np.uint8)
        if number % _ROUNDS == 0:
            found += sums.sum(axis=1, dtype=np.int64)
            sums[:] = 0
    found += sums.sum(axis=1, dtype=np.int64)
    return found


def by_value(cells: list[Any] | Counted, known: Sequence[str] = ()) -> Mapping[Any, int]:
    """Categories with the number of their cells; faster when most are among the ``known`` ones."""
    if isinstance(cells, list):
        return Counter(cells)
    if str(cells.type) == "string_view":
        return by_value(cells.cast("large_string"), known)  # Arrow 26 counts views wrongly where some are null
    whole = len(cells) >= _MANY and str(cells.type) in _STRINGS and hasattr(cells, "buffers")
    book = codebook(known) if whole else None
    if book is None:
        return _hashed(cells)
    counts, others = book.count(cells.drop_null() if cells.null_count else cells)
    found: Counter[Any] = Counter(dict(zip(known, counts, strict=True)))
    found[None] += cells.null_count
    for part in others:
        found.update(_hashed(part))
    return found


def _hashed(cells: Counted) -> Mapping[Any, int]:
    found = cells.value_counts()
    return dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True))
