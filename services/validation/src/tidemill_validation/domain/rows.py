"""Rows that training never read: the test split."""

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


def read(paths: tuple[Path, ...], from_ordinal: int, since: datetime | None, newest: int) -> pa.Table:
    """Live test rows with event time ``since`` or later, in order of arrival, the ``newest`` at most."""
    if not paths:
        return pa.table({})
    table = pa.concat_tables([pq.read_table(p) for p in paths], promote_options="default")
    keep = pc.greater_equal(table[ORDINAL], from_ordinal)
    if since is not None:
        late = pc.greater_equal(table[TIME], pa.scalar(since, pa.timestamp("us", "UTC")))
        keep = pc.and_(keep, pc.fill_null(late, False))
    table = table.filter(keep).sort_by(ORDINAL)
    return table.slice(max(0, table.num_rows - newest))


def layout(table: pa.Table, numeric: tuple[str, ...], categorical: tuple[str, ...]) -> tuple[Array, Array]:
    """[n, k] float32 with NaN for missing, [n, m] strings with "" for missing."""
    n = table.num_rows
    numbers = np.empty((n, len(numeric)), np.float32)
    for i, name in enumerate(numeric):
        numbers[:, i] = table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
    strings = np.empty((n, len(categorical)), object)
    for i, name in enumerate(categorical):
        strings[:, i] = pc.fill_null(table[name].cast(pa.string()), "").to_pylist()
    return numbers, strings


def targets(table: pa.Table, target: str, classes: tuple[Any, ...]) -> Array:
    """Class indexes, or values."""
    if not classes:
        values: Array = table[target].to_numpy(zero_copy_only=False).astype(np.float64)
        return values
    codes = {label: i for i, label in enumerate(classes)}
    return np.array([codes[v] for v in table[target].to_pylist()], np.int64)
