"""Splits and identities: what must never change."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tidemill_ingestion.domain import identity
from tidemill_ingestion.domain.coercion import texts
from tidemill_ingestion.domain.splitting import by_hash, by_time

KNOWN = [18341373233053401269, 16313851712701140053, 16294208416658607535]
hashes = st.lists(st.integers(0, 2**64 - 1), unique=True).map(lambda values: np.array(values, np.uint64))


@given(hashes, st.randoms(use_true_random=False))
def test_a_hash_split_depends_on_the_row_alone(values: identity.Hashes, random: object) -> None:
    whole = by_hash(values, train=0.7, validation=0.15)
    assert sorted(np.concatenate(list(whole.values())).tolist()) == list(range(values.size))
    placed = {int(values[row]): split for split, rows in whole.items() for row in rows}
    order = list(range(values.size))
    random.shuffle(order)  # type: ignore[attr-defined]
    half = values[order[: values.size // 2]]
    for split, rows in by_hash(half, train=0.7, validation=0.15).items():
        assert all(placed[int(half[row])] == split for row in rows)


@given(st.data())
def test_a_time_split_is_ordered_and_ignores_file_order(data: st.DataObject) -> None:
    values = data.draw(hashes)
    times = np.array(data.draw(st.lists(st.integers(-5, 5), min_size=values.size, max_size=values.size)), np.int64)
    splits = by_time(times, values, train=0.6, validation=0.2)
    assert sorted(np.concatenate(list(splits.values())).tolist()) == list(range(values.size))
    ends = [(times[rows].min(), times[rows].max()) for rows in splits.values() if rows.size]
    assert all(before[1] <= after[0] for before, after in pairwise(ends))
    assert abs(splits["train"].size - 0.6 * values.size) <= 0.5 + 1e-9
    order = np.array(data.draw(st.permutations(range(values.size))), np.int64)
    for split, rows in by_time(times[order], values[order], train=0.6, validation=0.2).items():
        assert set(values[order][rows].tolist()) == set(values[splits[split]].tolist())


def test_shares_of_a_hash_split() -> None:
    values = np.random.default_rng(0).integers(0, 2**64, 50_000, np.uint64)
    sizes = {k: v.size / values.size for k, v in by_hash(values, train=0.7, validation=0.1).items()}
    np.testing.assert_allclose([sizes["train"], sizes["validation"], sizes["test"]], [0.7, 0.1, 0.2], atol=0.01)


def test_known_identities_do_not_change() -> None:
    """Rows already stored were hashed by this function: a change would let every duplicate in."""
    cells = {
        "n": identity.number_cells(np.array([1.5, -0.0, np.nan])),
        "c": identity.text_cells(texts(pa.array(["a", "ü", None])).values),
    }
    assert identity.row_hashes(cells, 3).tolist() == KNOWN
    assert identity.row_hashes(dict(reversed(cells.items())), 3).tolist() == KNOWN
    cells["empty"] = identity.text_cells(pa.nulls(3, pa.string()))
    assert identity.row_hashes(cells, 3).tolist() == KNOWN


def test_which_of_two_equal_cells_in_two_columns_matters() -> None:
    a, b = (identity.text_cells(pa.array([word])) for word in "ab")
    assert identity.row_hashes({"x": a, "y": b}, 1) != identity.row_hashes({"x": b, "y": a}, 1)


def test_chance_collisions_are_rare() -> None:
    values = np.arange(200_000, dtype=np.float64)
    rows = identity.row_hashes({"x": identity.number_cells(values), "y": identity.number_cells(values[::-1])}, 200_000)
    assert np.unique(rows).size == rows.size


def test_duplicates_keep_the_first() -> None:
    rows = np.array([5, 6, 5, 7, 6, 8], np.uint64)
    candidates = np.array([False, True, True, True, True, True])
    again = identity.repeated(rows, candidates, np.array([7], np.uint64))
    assert again.tolist() == [False, False, False, True, True, False]
