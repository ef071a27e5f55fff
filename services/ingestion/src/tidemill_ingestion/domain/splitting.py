"""Leakage-free splits: decided once, when a row arrives, from nothing but the row or its arrival."""

import numpy as np
import numpy.typing as npt

from tidemill_ingestion.domain.identity import Hashes, mixed
from tidemill_ingestion.domain.job import SPLITS, Split

Rows = npt.NDArray[np.int64]


def by_hash(hashes: Hashes, *, train: float, validation: float) -> dict[Split, Rows]:
    """Positions by split. A row's split is a function of its identity alone.

    The identity is mixed once more, so that the split is independent of any other use of its bits.
    """
    share = mixed(hashes).astype(np.float64) / 2.0**64
    return _by_bounds(share, train, train + validation)


def by_time(times: npt.NDArray[np.int64], hashes: Hashes, *, train: float, validation: float) -> dict[Split, Rows]:
    """Positions by split, each in file order: the oldest share trains, the newest tests; equal times by identity."""
    rank = np.empty(times.size, np.float64)
    rank[np.lexsort((hashes, times))] = (np.arange(times.size) + 0.5) / max(times.size, 1)
    return _by_bounds(rank, train, train + validation)


def _by_bounds(share: npt.NDArray[np.float64], train: float, rest: float) -> dict[Split, Rows]:
    number = np.digitize(share, (train, rest))
    return {split: np.flatnonzero(number == index) for index, split in enumerate(SPLITS)}
