"""The child's work on a large table: every row of an Arrow object is answered or refused, in its order."""

import json
import re
from collections import Counter

import pyarrow as pa

from tidemill_contracts.names import EVENT_ID_PATTERN
from tidemill_serving.domain.package import model_of
from tidemill_serving.scoring.job import CHUNK_ROWS, Answered, TableJob, Unreadable
from tidemill_serving.scoring.reading import read
from tidemill_serving.scoring.results import Results, arrow_file
from tidemill_serving.scoring.source import Unusable, chunks
from tidemill_serving.scoring.work import answers

ID_COLUMN = "prediction_id"
_ID = re.compile(EVENT_ID_PATTERN.removesuffix("$"))


def answer(job: TableJob) -> Answered | Unreadable:
    """Write the answers to ``job.output``; why the table cannot be read, if so."""
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        return _answered(job)
    except Unusable as error:
        return Unreadable(error.code, str(error))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:  # a type that cannot be read
        return Unreadable("unreadable", f"a column cannot be read: {str(error)[:500]}")


def _answered(job: TableJob) -> Answered:
    model = model_of(job.onnx.read_bytes(), json.loads(job.signature.read_bytes()), job.threads)
    columns = list(dict.fromkeys([ID_COLUMN, *model.layout.numeric, *model.layout.categorical]))
    seen: set[str] = set()
    errors: Counter[str] = Counter()
    with Results(arrow_file(job.output), model, job.model_version, pa.field(ID_COLUMN, pa.string())) as results:
        for batch in chunks(job.input, "arrow", columns, CHUNK_ROWS, 0):
            ids = _ids(batch, seen, job.most_rows)
            inputs, verdicts = read(batch, model.layout)
            errors.update(results.write(ids, answers(model, inputs), verdicts))
    if not seen:
        raise Unusable("unreadable", "the table has no rows")
    return Answered(len(seen), dict(errors))


def _ids(batch: pa.RecordBatch, seen: set[str], most: int) -> pa.Array:
    """The batch's prediction ids, noted as seen. Raises Unusable."""
    column = batch.column(ID_COLUMN)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise Unusable("invalid_ids", f"the column {ID_COLUMN} must be text, not {column.type}")
    for row, id_ in enumerate(column.to_pylist(), len(seen)):
        if id_ is None or not _ID.fullmatch(id_):
            raise Unusable("invalid_ids", f"row {row}: {ID_COLUMN} must match {EVENT_ID_PATTERN}")
        if id_ in seen:
            raise Unusable("invalid_ids", f"row {row}: a prediction id appears twice")
        if row >= most:
            raise Unusable("too_large", f"more than {most} rows: ask in parts, or a batch")
        seen.add(id_)
    return column.cast(pa.string())
