"""Freezing test rows as a golden set. Imported in child processes only."""

from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq

from tidemill_validation.domain import rows


def freeze(paths: tuple[Path, ...], from_ordinal: int, since: datetime | None, newest: int, out: Path) -> int:
    """Write the ``newest`` live rows of these parts with event time ``since`` or later to ``out``; how many."""
    table = rows.read(paths, from_ordinal, since, newest)
    pq.write_table(table, out)
    return len(table)
