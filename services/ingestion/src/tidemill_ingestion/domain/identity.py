"""Row identities: 64-bit hashes that depend on content alone, not on file format, column order or platform."""

from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill_ingestion.domain.coercion import Floats

Hashes = npt.NDArray[np.uint64]


def word_hash(word: str) -> int:
    """The first 64 bits of BLAKE2b of the UTF-8 text."""
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


def text_cells(column: pa.Array) -> Hashes:
    """A hash of each string; 0 where missing. Each different string is hashed once."""
    encoded = pc.dictionary_encode(column)
    table = np.array([word_hash(word) for word in encoded.dictionary.to_pylist()] + [0], np.uint64)
    codes: npt.NDArray[np.int64] = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return table[codes]


def number_cells(column: Floats) -> Hashes:
    """The bits of each number (one zero, not two); 0 where missing."""
    bits = mixed((column + 0.0).view(np.uint64))
    bits[np.isnan(column)] = 0
    return bits


def integer_cells(column: npt.NDArray[np.int64]) -> Hashes:
    """The bits of each integer, mixed."""
    return mixed(column.view(np.uint64))


def row_hashes(cells: dict[str, Hashes], rows: int) -> Hashes:
    """One hash a row from its cells by column name.

    Cells are mixed with their column's name and added, so that neither the order of columns nor a column without
    values changes an identity. Chance collisions: n² / 2⁶⁵.
    """
    total = np.zeros(rows, np.uint64)
    for name, column in cells.items():
        salt = np.uint64(word_hash(name))
        total += np.where(column == 0, np.uint64(0), mixed(column ^ salt))
    return mixed(total)


def mixed(values: Hashes) -> Hashes:
    """SplitMix64's finalizer (Steele, Lea, Flood 2014; constants of Stafford's variant 13)."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def repeated(hashes: Hashes, candidates: npt.NDArray[np.bool_], known: Hashes) -> npt.NDArray[np.bool_]:
    """Which candidates repeat a known row or an earlier candidate; the first of each stays."""
    positions = np.flatnonzero(candidates)
    _, first = np.unique(hashes[positions], return_index=True)
    again = candidates.copy()
    again[positions[first]] = False
    if known.size:
        again |= candidates & np.isin(hashes, known)
    return again
