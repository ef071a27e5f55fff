"""Recent labelled rows of a pipeline as a stream with a change put into it."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tidemill_console.acceptance.stream import Stream, stream
from tidemill_console.connection import Client
from tidemill_contracts.artifacts import dataset_log_prefix
from tidemill_contracts.dataset import DatasetManifest, PreparedDataset
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_shared.append_log import AppendLog
from tidemill_shared.errors import TidemillError

_ORDINAL = "tidemill_ordinal"


async def recent(client: Client, spec: PipelineSpec, rows: int) -> tuple[pa.Table, DatasetManifest]:
    """The newest live rows of all splits, oldest first, at most ``rows``. Raises TidemillError without any."""
    log = AppendLog(client.store, dataset_log_prefix(spec.name), PreparedDataset)
    last = await log.last()
    if last is None:
        raise TidemillError(f"{spec.name} has no rows yet: publish some first")
    manifest = await client.store.document(last[1].manifest, DatasetManifest)
    tables: list[pa.Table] = []
    for part in sorted(manifest.parts, key=lambda p: p.last_ordinal, reverse=True):
        if part.last_ordinal < manifest.from_ordinal or sum(map(len, tables)) >= 2 * rows:
            break
        tables.append(pq.read_table(await client.store.cached(part.file)))
    table = pa.concat_tables(tables, promote_options="default").sort_by(_ORDINAL)
    return table.slice(max(0, len(table) - rows)), manifest


def changed(
    table: pa.Table, manifest: DatasetManifest, spec: PipelineSpec, *, first: int, calm: int, after: int
) -> Stream:
    """``first`` rows to train on, ``calm`` ones as they were, then ``after`` ones whose labels are exchanged: every
    class is called by the name of the next. Rows are repeated in their order where there are too few of them."""
    if manifest.task != "classification":
        raise TidemillError(f"{spec.name} is a {manifest.task}: a drill exchanges classes, and it has none")
    columns = [c.name for c in manifest.columns if c.role == "feature"]
    total = first + calm + after
    picked = np.resize(np.arange(len(table)), total)
    frame: pd.DataFrame = table.select([*columns, spec.target]).to_pandas().iloc[picked].reset_index(drop=True)
    labels: list[Any] = frame[spec.target].tolist()
    classes = list(manifest.classes)
    following = dict(zip(classes, [*classes[1:], classes[0]], strict=True))
    begin = first + calm
    told = [label if i < begin else following[label] for i, label in enumerate(labels)]
    return stream(f"drill-{spec.name}", frame[columns], told, changes=(begin,), first=first)
