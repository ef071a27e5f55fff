"""The rows a model was trained on, in the model's layout."""

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


def read(paths: tuple[Path, ...], from_ordinal: int, since: datetime | None, newest: int | None) -> pd.DataFrame:
    """Live rows of the parts with event time ``since`` or later, in order of arrival, the ``newest`` at most."""
    if not paths:
        return pd.DataFrame()
    table = pa.concat_tables([pq.read_table(p) for p in paths], promote_options="default")
    keep = pc.greater_equal(table[ORDINAL], from_ordinal)
    if since is not None:
        late = pc.greater_equal(table[TIME], pa.scalar(since, pa.timestamp("us", "UTC")))
        keep = pc.and_(keep, pc.fill_null(late, False))
    table = table.filter(keep).sort_by(ORDINAL)
    if newest is not None:
        table = table.slice(max(0, table.num_rows - newest))
    frame: pd.DataFrame = table.to_pandas()
    return frame


def layout(frame: pd.DataFrame, numeric: tuple[str, ...], categorical: tuple[str, ...]) -> tuple[Array, Array]:
    """[n, k] float32 with NaN for missing, [n, m] strings with "" for missing."""
    n = len(frame)
    numbers = np.column_stack([frame[c].to_numpy(np.float32, na_value=np.nan) for c in numeric]) if numeric else None
    strings = np.column_stack([frame[c].fillna("").astype(object) for c in categorical]) if categorical else None
    return (
        np.ascontiguousarray(numbers, np.float32) if numbers is not None else np.zeros((n, 0), np.float32),
        np.asarray(strings, object) if strings is not None else np.zeros((n, 0), object),
    )


def as_trained(numbers: Array, strings: Array, numeric: tuple[str, ...], categorical: tuple[str, ...]) -> pd.DataFrame:
    """The frame the trained pipeline reads."""
    columns: dict[str, Any] = {c: numbers[:, i] for i, c in enumerate(numeric)}
    columns |= {c: pd.Series(strings[:, i], dtype=object) for i, c in enumerate(categorical)}
    return pd.DataFrame(columns)


def enlarge(numbers: Array, strings: Array, rows: int, seed: int) -> tuple[Array, Array, Array]:
    """At least ``rows`` rows: the given ones first, then ones whose cells are drawn from the columns one by one, some
    missing, so that parity is also tried where the training rows do not lie. Third: index of the source row."""
    n = len(numbers)
    rng = np.random.default_rng(seed)
    more = max(0, rows - n)
    source = np.concatenate([np.arange(n), rng.integers(0, n, more)])
    numbers, strings = numbers[source].copy(), strings[source].copy()
    for column in range(numbers.shape[1]):
        drawn = numbers[rng.integers(0, n, more), column]
        drawn[rng.random(more) < 0.02] = np.nan
        numbers[n:, column] = drawn
    for column in range(strings.shape[1]):
        drawn = strings[rng.integers(0, n, more), column]
        drawn[rng.random(more) < 0.02] = ""
        strings[n:, column] = drawn
    return numbers, strings, source
