"""The background of explanations: rows drawn from how the columns were in training, each column by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill_serving.domain.features import Matrices


@dataclass(frozen=True)
class Spread:
    """A column in training: numbers by ``edges`` and ``counts`` (below the first edge, between, from the last on), or
    ``categories``; and how many of its cells were missing."""

    missing: int
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    lowest: float | None = None
    highest: float | None = None
    categories: tuple[tuple[str, int], ...] = ()


def background(numeric: Sequence[Spread], categorical: Sequence[Spread], rows: int, seed: int = 0) -> Matrices:
    """A Latin hypercube (McKay et al. 1979): each column has its distribution as evenly as ``rows`` allow."""
    random = np.random.default_rng(seed)
    numbers = np.empty((rows, len(numeric)), np.float32)
    strings = np.empty((rows, len(categorical)), object)
    for index, column in enumerate(numeric):
        numbers[:, index] = _numbers(column, (random.permutation(rows) + 0.5) / rows)
    for index, column in enumerate(categorical):
        strings[:, index] = _strings(column, (random.permutation(rows) + 0.5) / rows)
    return Matrices(numbers, strings)


def _numbers(column: Spread, places: NDArray[np.float64]) -> NDArray[np.float64]:
    present = sum(column.counts)
    if not present or not column.edges:
        return np.full(len(places), np.nan)
    low = column.edges[0] if column.lowest is None else min(column.lowest, column.edges[0])
    high = column.edges[-1] if column.highest is None else max(column.highest, column.edges[-1])
    shares = np.concatenate([[0.0], np.cumsum(column.counts) / present])
    share_missing = column.missing / (column.missing + present)
    found = np.interp((places - share_missing) / (1 - share_missing), shares, [low, *column.edges, high])
    return np.where(places < share_missing, np.nan, found)


def _strings(column: Spread, places: NDArray[np.float64]) -> NDArray[np.object_]:
    levels = np.array(["", *(name for name, _ in column.categories)], object)
    counts = np.array([column.missing, *(count for _, count in column.categories)], np.float64)
    if not counts.sum():
        return np.full(len(places), "", object)
    found: NDArray[np.object_] = levels[np.searchsorted(np.cumsum(counts) / counts.sum(), places, side="right")]
    return found
