"""Which rows of a stream a model learned from, as its lineage tells."""

import asyncio
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tidemill_console.acceptance.stream import row_of
from tidemill_console.connection import Client
from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.dataset import DatasetManifest
from tidemill_contracts.model import ModelManifest, RowSelection

_TIME, _ORDINAL = "tidemill_time", "tidemill_ordinal"


async def learned_rows(client: Client, model: ArtifactRef) -> NDArray[np.int64]:
    """[rows] sorted: the training and validation rows of the model that this manifest describes. Older rows it was
    given besides count too, at the most that can be."""
    manifest = await client.store.document(model, ModelManifest)
    dataset = await client.store.document(manifest.dataset, DatasetManifest)
    parts = [part for part in dataset.parts if part.split != "test"]
    files = [await client.store.cached(part.file) for part in parts]
    choice, selection = manifest.row_choice, manifest.selection
    alone = choice is None or choice.taken == "since"
    return await asyncio.to_thread(read, files, dataset.from_ordinal, selection if alone else RowSelection())


def read(files: list[Path], from_ordinal: int, selection: RowSelection) -> NDArray[np.int64]:
    """[rows] of the stream, sorted: those in the files that are alive and selected."""
    table = pa.concat_tables([pq.read_table(file, columns=[_TIME, _ORDINAL]) for file in files])
    table = table.filter(pc.greater_equal(table[_ORDINAL], from_ordinal))
    if selection.since is not None:
        since = pa.scalar(selection.since, pa.timestamp("us", "UTC"))
        table = table.filter(pc.fill_null(pc.greater_equal(table[_TIME], since), False))
    if selection.newest is not None:
        table = table.sort_by(_ORDINAL).slice(max(0, len(table) - selection.newest))
    return np.sort(np.array([row_of(at) for at in table[_TIME].to_pylist()], np.int64))
