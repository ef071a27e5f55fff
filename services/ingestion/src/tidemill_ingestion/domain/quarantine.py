"""Refused rows, kept as they came so that somebody can look at them and send them again."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemill_ingestion.domain.cleaning import REASONS
from tidemill_ingestion.domain.coercion import flat, is_usable
from tidemill_ingestion.domain.job import NUMBER, REASON


def write_quarantine(table: pa.Table, reasons: npt.NDArray[np.int8], path: Path) -> Path | None:
    """A Parquet file of the refused rows: ``tidemill_reason``, ``tidemill_number`` (of the row in its file, from 1)
    and every original cell as a string. None when no row was refused."""
    positions = np.flatnonzero(reasons >= 0)
    if not positions.size:
        return None
    names = pa.array(REASONS)
    columns = {
        REASON: names.take(pa.array(reasons[positions])),
        NUMBER: pa.array(positions + 1),
    }
    for name in table.column_names:
        columns[name] = _as_text(flat(table[name].take(pa.array(positions))))
    pq.write_table(pa.table(columns), path, compression="zstd")
    return path


def _as_text(column: pa.Array) -> pa.Array:
    if is_usable(column.type):
        return pc.cast(column, pa.string())
    return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
