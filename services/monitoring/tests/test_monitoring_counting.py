"""Counting in bulk against the plain way: one value after the other."""

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tidemill_monitoring.domain.codebook import codebook
from tidemill_monitoring.domain.counting import below, by_value
from tidemill_monitoring.domain.reference import Reference, categorical_column, numeric_column
from tidemill_monitoring.domain.window import ColumnCounts, RowWindow

KNOWN = ["v0", "v1", "v10", "é", "zwölf-bytes", "12 bytes old", "a\0", "true", *(f"k{n}" for n in range(150))]
STRANGE = ["", "v", "v2", "True", "a", "a\0\0", "12 bytes older", "12 bytes old and so on", "ünknown", "zwölf-bytez"]


def drawn(rows: int, strange: float, missing: float) -> list[str | None]:
    whim = random.Random(rows)  # noqa: S311 - a draw
    kinds = whim.choices((KNOWN, STRANGE, [None]), (1 - strange - missing, strange, missing), k=rows)
    return [whim.choice(kind) for kind in kinds]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
@pytest.mark.parametrize(("strange", "missing"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.2), (0.01, 0.01)])
def test_strings_are_counted_as_one_by_one(kind: Any, strange: float, missing: float) -> None:
    cells = drawn(70_000, strange, missing)
    column = categorical_column("c", 1_000, 0, dict.fromkeys(KNOWN, 5))
    plain, fast = (ColumnCounts([0] * len(column.counts)) for _ in range(2))
    plain.add(column, cells)
    array = pa.array(cells, kind)
    fast.count(column, array.slice(0, 1_000))
    fast.count(column, array.slice(1_000))
    assert fast == plain
    found = by_value(pa.chunked_array([array]), KNOWN)
    assert {value: rows for value, rows in found.items() if rows} == Counter(cells)


def test_long_categories_and_other_types_are_counted_too() -> None:
    cells = ["a category of more than twelve bytes", "b"] * 5_000
    assert codebook(sorted(set(cells))) is None
    assert by_value(pa.array(cells), sorted(set(cells))) == Counter(cells)
    assert by_value(pa.array(cells).dictionary_encode(), ["b"]) == Counter(cells)
    assert by_value(pa.array([1, 2, 2] * 3_000), ["1"]) == {1: 3_000, 2: 6_000}
    assert by_value(pa.array(cells), ()) == Counter(cells)


@pytest.mark.parametrize("rows", [0, 1, 1_999, 2_000, 8_193, 70_001])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_numbers_are_counted_as_one_by_one(rows: int, dtype: Any) -> None:
    """Ties on edges, values beside them, infinities and missing ones."""
    rng = np.random.default_rng(rows)
    edges = np.unique(np.concatenate([rng.normal(size=15).astype(np.float32), [-2.0, 0.0, 1.0, 3.0]])).astype(float)
    near = np.concatenate([edges, np.nextafter(edges, -9), np.nextafter(edges, 9), [np.inf, -np.inf, np.nan, -0.0]])
    values = np.where(rng.random(rows) < 0.5, rng.choice(near, rows), rng.normal(size=rows) * 2)
    values = (values if dtype != np.int64 else np.nan_to_num(values, posinf=9, neginf=-9)).astype(dtype)
    column = numeric_column("x", 100, 0, edges.tolist(), [5] * (len(edges) + 1), (-2.5, 3.0), 1.0)
    counts = ColumnCounts([0] * (len(edges) + 1))
    counts.add_numbers(column, values)
    known = values[~np.isnan(values)].astype(float)
    bins = [sum(1 for v in known if lower <= v < upper) for lower, upper in _bins(edges)]
    bins[-1] += int(np.isposinf(known).sum())
    assert counts.counts == bins
    assert counts.missing == rows - len(known)
    assert counts.unseen == int(((known < -2.5) | (known > 3.0)).sum())
    assert below(values, edges).tolist() == [int((values < edge).sum()) for edge in edges]


def _bins(edges: Any) -> list[tuple[float, float]]:
    limits = [-np.inf, *edges.tolist(), np.inf]
    return list(pairwise(limits))


def test_all_columns_at_once_are_counted_as_row_by_row() -> None:
    """With as many threads as there are processors, against pieces that one thread counts."""
    rows, rng = 25_000, np.random.default_rng(1)
    edges = np.linspace(-1.5, 1.5, 19).tolist()
    numbers = [numeric_column(f"n{i}", 100, 0, edges, [5] * 20, (-2.0, 2.0), 1.0) for i in range(12)]
    words = [categorical_column(f"c{i}", 1_000, 0, dict.fromkeys(KNOWN, 5)) for i in range(3)]
    reference = Reference("digest", (*numbers, *words), numbers[0], 0.9, 100)
    values = [np.where(rng.random(rows) < 0.01, np.nan, rng.normal(size=rows)) for _ in numbers]
    cells = [drawn(rows + i, 0.1, 0.1)[:rows] for i in range(len(words))]
    at_once, piece_by_piece = RowWindow.empty(reference), RowWindow.empty(reference)
    at_once.tally(reference, [*values, *(pa.array(c, pa.large_string()) for c in cells)], rows)
    for at in range(0, rows, 1_000):
        part = slice(at, at + 1_000)
        piece_by_piece.tally(reference, [*(v[part] for v in values), *(c[part] for c in cells)], 1_000)
    assert at_once == piece_by_piece
