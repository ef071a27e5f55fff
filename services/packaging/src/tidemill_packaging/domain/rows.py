"""The rows a model was trained on, in the model's layout."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

Array = NDArray[Any]
TIME, ORDINAL = "tidemill_time", "tidemill_ordinal"
UNKNOWN = "tidemill: no such category"
_MISSING_SHARE = 0.02


def first_ordinal(paths: Sequence[Path], from_ordinal: int, since: datetime | None, newest: int | None) -> int:
    """The ordinal from which on rows belong to a selection of the ``newest`` rows over all these parts together."""
    if newest is None:
        return from_ordinal
    found = [_live(path, (), from_ordinal, since)[ORDINAL].to_numpy() for path in paths]
    ordinals = np.concatenate([np.empty(0, np.int64), *found])
    if len(ordinals) <= newest:
        return from_ordinal
    return int(np.partition(ordinals, len(ordinals) - newest)[len(ordinals) - newest])


def read(
    paths: Sequence[Path], columns: Sequence[str], from_ordinal: int, since: datetime | None, most: int
) -> pa.Table:
    """The ``most`` newest live rows of a split with event time ``since`` or later, in order of arrival.

    ``paths`` lie in order of arrival; older parts are not opened once there are enough rows.
    """
    tables: list[pa.Table] = []
    for path in reversed(paths):
        tables.insert(0, _live(path, columns, from_ordinal, since))
        if sum(map(len, tables)) >= most:
            break
    if not tables:
        return pa.table({})
    table = pa.concat_tables(tables, promote_options="default").sort_by(ORDINAL)
    return table.slice(max(0, len(table) - most))


def joined(one: pa.Table, other: pa.Table, most: int) -> pa.Table:
    """The ``most`` newest rows of two tables, in order of arrival."""
    table = pa.concat_tables([one, other], promote_options="default").sort_by(ORDINAL)
    return table.slice(max(0, len(table) - most))


def _live(path: Path, columns: Sequence[str], from_ordinal: int, since: datetime | None) -> pa.Table:
    # A part that is older than a column does not have it.
    wanted = [c for c in pq.read_schema(path).names if c in {*columns, TIME, ORDINAL}]
    table = pq.read_table(path, columns=wanted)
    keep = pc.greater_equal(table[ORDINAL], from_ordinal)
    if since is not None:
        late = pc.greater_equal(table[TIME], pa.scalar(since, pa.timestamp("us", "UTC")))
        keep = pc.and_(keep, pc.fill_null(late, False))
    return table.filter(keep)


def numbers(table: pa.Table, column: str) -> Array:
    """[n] float64, NaN for missing."""
    if column not in table.column_names:
        return np.full(len(table), np.nan)
    values: Array = table[column].cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values


def strings(table: pa.Table, column: str) -> Array:
    """[n] str objects, "" for missing."""
    if column not in table.column_names:
        return np.full(len(table), "", object)
    return np.array(pc.fill_null(table[column].cast(pa.string()), "").to_pylist(), object)


def layout(table: pa.Table, numeric: Sequence[str], categorical: Sequence[str]) -> tuple[Array, Array]:
    """[n, k] float32 with NaN for missing and for what float32 cannot hold, [n, m] strings with "" for missing."""
    k, m = np.empty((len(table), len(numeric)), np.float32), np.empty((len(table), len(categorical)), object)
    with np.errstate(over="ignore"):
        for i, name in enumerate(numeric):
            k[:, i] = numbers(table, name)
    for i, name in enumerate(categorical):
        m[:, i] = strings(table, name)
    k[~np.isfinite(k)] = np.nan
    return k, m


def targets(table: pa.Table, target: str, classes: Sequence[Any]) -> Array:
    """[n] class indexes (int64), or values (float64) where there are no classes."""
    if not classes:
        return numbers(table, target)
    codes = {label: i for i, label in enumerate(classes)}
    return np.array([codes[v] for v in table[target].to_pylist()], np.int64)


def as_trained(k: Array, m: Array, numeric: Sequence[str], categorical: Sequence[str]) -> pd.DataFrame:
    """The frame the trained pipeline reads."""
    columns: dict[str, Any] = {c: k[:, i] for i, c in enumerate(numeric)}
    columns |= {c: pd.Series(m[:, i], dtype=object) for i, c in enumerate(categorical)}
    return pd.DataFrame(columns, index=range(len(k)))


def enlarge(k: Array, m: Array, *, rows: int, seed: int) -> tuple[Array, Array, Array]:
    """The [n] given rows and at least ``rows`` in all; third: the index of each one's source row.

    The others are drawn cell by cell from their columns, some cells missing, so that parity is also tried where the
    training rows do not lie. The last two are a row of unknown categories and one where everything is missing.
    """
    n = len(k)
    rng = np.random.default_rng(seed)
    more = max(64, rows - n)
    source = np.concatenate([np.arange(n), rng.integers(0, n, more)])
    k, m = k[source], m[source]
    for block, missing in ((k, np.nan), (m, "")):
        for column in range(block.shape[1]):
            drawn = block[rng.integers(0, n, more), column]
            drawn[rng.random(more) < _MISSING_SHARE] = missing
            block[n:, column] = drawn
    m[-2], k[-1], m[-1] = UNKNOWN, np.nan, ""
    return k, m, source
