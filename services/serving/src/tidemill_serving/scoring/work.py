"""The child's work: read a chunk, judge it, one model call, write; a part after the other."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from tidemill_serving.domain.features import Matrices
from tidemill_serving.domain.model import Model, Predictions
from tidemill_serving.domain.package import model_of
from tidemill_serving.scoring.job import CHUNK_ROWS, Finished, Job, Unreadable
from tidemill_serving.scoring.reading import read
from tidemill_serving.scoring.results import Results, parquet_file
from tidemill_serving.scoring.source import Unusable, chunks, rows_of


def score(job: Job, progress: Callable[[Any], None]) -> Unreadable | None:
    """Score what is left; says ``Finished`` for each part. Returns why the file cannot be scored, if so."""
    # Freed memory goes back at once: what counts is what a batch holds, not what it once held.
    pa.set_memory_pool(pa.system_memory_pool())
    model = model_of(job.onnx.read_bytes(), json.loads(job.signature.read_bytes()), job.threads)
    try:
        _parts(job, model, progress)
    except Unusable as error:
        return Unreadable(error.code, str(error))
    return None


def _parts(job: Job, model: Model, progress: Callable[[Any], None]) -> None:
    columns = [*model.layout.numeric, *model.layout.categorical]
    if job.row_id is not None:
        columns = list(dict.fromkeys([*columns, job.row_id]))
    total, start = rows_of(job.input, job.format), job.first_part * job.part_rows
    batches = chunks(job.input, job.format, columns, min(CHUNK_ROWS, job.part_rows), start)
    index = job.first_part
    for first in batches:
        finished = _part(job, model, index, first, batches, total)
        progress(finished)
        index += 1


def _part(
    job: Job, model: Model, index: int, first: pa.RecordBatch, batches: Iterator[pa.RecordBatch], total: int | None
) -> Finished:
    path, errors, done = job.folder / f"part-{index:05d}.parquet", Counter[str](), 0
    row_type = pa.int64() if job.row_id is None else first.column(job.row_id).type
    with Results(parquet_file(path), model, job.model_version, pa.field("row", row_type)) as results:
        for batch in _chain(first, islice(batches, job.part_rows // min(CHUNK_ROWS, job.part_rows) - 1)):
            inputs, verdicts = read(batch, model.layout)
            start = index * job.part_rows + done
            rows = pa.array(range(start, start + len(batch))) if job.row_id is None else batch.column(job.row_id)
            errors.update(results.write(rows, answers(model, inputs), verdicts))
            done += len(batch)
    return Finished(index, job.model_version, path, done, dict(errors), total)


def _chain(first: pa.RecordBatch, others: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from others


def answers(model: Model, inputs: Matrices) -> Predictions:
    """By one call, unless a row breaks it for all the others; that row has no answer."""
    try:
        return model.predict(inputs)
    except Exception:
        if len(inputs) == 1:
            none = np.full((1, len(model.classes)), np.nan, np.float32)
            return Predictions([None], none if model.task == "classification" else None)
    half = len(inputs) // 2
    left, right = answers(model, inputs[:half]), answers(model, inputs[half:])
    if left.probabilities is None or right.probabilities is None:
        return Predictions(left.values + right.values, None)
    return Predictions(left.values + right.values, np.concatenate([left.probabilities, right.probabilities]))
