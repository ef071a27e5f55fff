"""Reading the rows a training may use."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

TIME, ORDINAL = "tidemill_time", "tidemill_ordinal"


@dataclass(frozen=True)
class Files:
    """Verified local copies of a split's parts, oldest first, and the ordinal from which rows are still alive."""

    paths: tuple[Path, ...]
    from_ordinal: int


def read(files: Files, since: datetime | None) -> pa.Table:
    """Live rows of a split with event time ``since`` or later, in order of arrival; no files make an empty table
    without columns."""
    tables = [pq.read_table(path) for path in files.paths]
    if not tables:
        return pa.table({})
    table = pa.concat_tables(tables, promote_options="default")
    keep = pc.greater_equal(table[ORDINAL], files.from_ordinal)
    if since is not None:
        late = pc.greater_equal(table[TIME], pa.scalar(since, pa.timestamp("us", "UTC")))
        keep = pc.and_(keep, pc.fill_null(late, False))
    return table.filter(keep).sort_by(ORDINAL)


def newest(splits: dict[str, pa.Table], count: int | None) -> dict[str, pa.Table]:
    """Over all splits together, only the ``count`` newest rows."""
    total = sum(t.num_rows for t in splits.values())
    if count is None or total <= count:
        return splits
    ordinals = np.concatenate([t[ORDINAL].to_numpy() for t in splits.values() if t.num_rows])
    bound = int(np.partition(ordinals, total - count)[total - count])
    return {name: t.filter(pc.greater_equal(t[ORDINAL], bound)) if t.num_rows else t for name, t in splits.items()}


def examples(files: Files, selected: pa.Table, target: str, classes: Sequence[Any], least: int) -> pa.Table:
    """The ``selected`` training rows, and of each class that has fewer than ``least`` there the newest earlier ones to
    make up for it: a class that has not come since a change must stay known, or its next row could only be refused."""
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(selected[target]).to_pylist()}
    lacking = {label: least - counts.get(label, 0) for label in classes if counts.get(label, 0) < least}
    if not lacking:
        return selected
    before = others(files, selected)
    found = []
    for label, missing in lacking.items():
        of_class = before.filter(pc.equal(before[target], pa.scalar(label, before[target].type)))
        found.append(of_class.slice(max(0, len(of_class) - missing)))
    return pa.concat_tables([*found, selected], promote_options="default")


def others(files: Files, selected: pa.Table) -> pa.Table:
    """Live rows of the files that are not ``selected``, in order of arrival."""
    every = read(files, None)
    return every.filter(pc.invert(pc.is_in(every[ORDINAL], value_set=selected[ORDINAL].combine_chunks())))


def count_since(path: Path, since: datetime, from_ordinal: int) -> int:
    """Live rows of one part with event time ``since`` or later."""
    table = pq.read_table(path, columns=[TIME, ORDINAL])
    late = pc.fill_null(pc.greater_equal(table[TIME], pa.scalar(since, pa.timestamp("us", "UTC"))), False)
    return int(pc.sum(pc.and_(late, pc.greater_equal(table[ORDINAL], from_ordinal))).as_py() or 0)


def to_frame(table: pa.Table) -> Any:
    """As a pandas frame."""
    return table.to_pandas()
