"""Rows that training never read: the test split."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

Array = NDArray[Any]
TIME, ORDINAL = "tidemill_time", "tidemill_ordinal"


def read(paths: Sequence[Path], from_ordinal: int, since: datetime | None, newest: int) -> pa.Table:
    """The ``newest`` live rows of these parts with event time ``since`` or later, in order of arrival.

    ``paths`` lie in order of arrival; older parts are not opened once there are enough rows.
    """
    tables: list[pa.Table] = []
    for path in reversed(paths):
        table = pq.read_table(path)
        keep = pc.greater_equal(table[ORDINAL], from_ordinal)
        if since is not None:
            late = pc.greater_equal(table[TIME], pa.scalar(since, pa.timestamp("us", "UTC")))
            keep = pc.and_(keep, pc.fill_null(late, False))
        tables.insert(0, table.filter(keep))
        if sum(map(len, tables)) >= newest:
            break
    if not tables:
        return pa.table({})
    table = pa.concat_tables(tables, promote_options="default").sort_by(ORDINAL)
    return table.slice(max(0, len(table) - newest))


def layout(table: pa.Table, numeric: Sequence[str], categorical: Sequence[str]) -> tuple[Array, Array]:
    """[n, k] float32 with NaN for missing and for what float32 cannot hold, [n, m] strings with "" for missing.

    A column that the rows do not have is missing in all of them: so it would be in production.
    """
    n = len(table)
    numbers = np.full((n, len(numeric)), np.nan, np.float32)
    with np.errstate(over="ignore"):
        for i, name in enumerate(numeric):
            if name in table.column_names:
                numbers[:, i] = table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
    numbers[~np.isfinite(numbers)] = np.nan
    strings = np.full((n, len(categorical)), "", object)
    for i, name in enumerate(categorical):
        if name in table.column_names:
            strings[:, i] = pc.fill_null(table[name].cast(pa.string()), "").to_pylist()
    return numbers, strings


def targets(table: pa.Table, target: str, classes: Sequence[Any]) -> Array:
    """[n] class indexes (int64), or values (float64) where there are no classes."""
    if not classes:
        values: Array = table[target].cast(pa.float64()).to_numpy(zero_copy_only=False)
        return values
    codes = {label: i for i, label in enumerate(classes)}
    return np.array([codes[v] for v in table[target].to_pylist()], np.int64)
