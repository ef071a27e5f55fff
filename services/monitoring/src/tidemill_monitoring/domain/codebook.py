"""Counting strings that are mostly known: each is compared with the one category it could be, sixteen bytes at once."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

_BLOCK = 1 << 17
"""Strings looked up at a time: 16 MB are made of them on the way. Fewer cost more, call by call."""
_INLINE = 12
"""Bytes that Arrow's view of a string holds, beside its length; a longer string lies elsewhere."""
_TRIES = 200
Words = npt.NDArray[np.uint64]


class Codebook:
    """Categories in a table without collisions, by Arrow's views of them: length and bytes, in two words each.

    100 000 strings take half the time that Arrow's hash table takes, which copies and compares bytes one by one.
    """

    def __init__(self, views: Words, multipliers: tuple[np.uint64, np.uint64], bits: int) -> None:
        self._multipliers = multipliers
        self._shift = np.uint64(64 - bits)
        self._places = self._slots(views)
        # A free place holds no view at all: of none the length is 2³² - 1.
        self._words = np.full((2, 1 << bits), np.iinfo(np.uint64).max, np.uint64)
        self._words[:, self._places] = views.T

    @property
    def apart(self) -> bool:
        """Whether every category has a place of its own."""
        return len(np.unique(self._places)) == len(self._places)

    def _slots(self, views: Words) -> npt.NDArray[np.int64]:
        """Where views [n, 2] would be (multiplicative hashing, Knuth 6.4)."""
        mixed = views[:, 0] * self._multipliers[0]
        mixed += views[:, 1] * self._multipliers[1]
        mixed >>= self._shift
        return mixed.view(np.int64)

    def count(self, cells: Any) -> tuple[list[int], list[Any]]:
        """Of an Arrow array of strings without nulls: the cells of each category, and the others, as Arrow arrays."""
        found = np.zeros(self._words.shape[1], np.int64)
        others = []
        for part, views in _blocks(cells):
            slots = self._slots(views)
            known = self._words[0].take(slots) == views[:, 0]
            known &= self._words[1].take(slots) == views[:, 1]
            if not known.all():
                others.append(part.filter(~known))
                slots = slots[known]
            found += np.bincount(slots, minlength=len(found))
        return found[self._places].tolist(), others


def _blocks(cells: Any) -> Iterator[tuple[Any, Words]]:
    for at in range(0, len(cells), _BLOCK):
        part = cells.slice(at, _BLOCK)
        yield part, _views(part)


def _views(cells: Any) -> Words:
    """Arrow's views of strings [n, 2]: the length in the first 4 bytes, then the string's, filled up with zeros."""
    import pyarrow as pa  # here, because a monitor of small windows need not hold it

    made = cells.cast(pa.string_view())
    words = np.frombuffer(made.buffers()[1], np.uint64)
    return words[2 * made.offset : 2 * (made.offset + len(made))].reshape(-1, 2)


def codebook(categories: Sequence[str]) -> Codebook | None:
    """The table of some categories; None where one of them is too long."""
    return _made(tuple(categories))


@lru_cache(1_024)
def _made(categories: tuple[str, ...]) -> Codebook | None:
    import pyarrow as pa

    if not categories or any(len(category.encode()) > _INLINE for category in categories):
        return None
    views = _views(pa.array(categories, pa.large_string()))
    random = np.random.default_rng(0)
    bits = max(8, 2 * len(categories).bit_length())
    for _ in range(_TRIES):
        first, second = random.integers(0, 1 << 63, 2, np.uint64) * np.uint64(2) + np.uint64(1)
        made = Codebook(views, (first, second), bits)
        if made.apart:
            return made
    return None
