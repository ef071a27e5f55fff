"""Results as Parquet or Arrow: the same rows give the same bytes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tidemill_serving.domain.model import Model, Predictions
from tidemill_serving.scoring.reading import Verdicts


def _prediction_type(model: Model) -> pa.DataType:
    if model.task == "regression":
        return pa.float64()
    kinds = {type(c) for c in model.classes}
    types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    return types.get(kinds.pop(), pa.string()) if len(kinds) == 1 else pa.string()


class Writer(Protocol):
    """What writes record batches into a file."""

    def write_batch(self, batch: pa.RecordBatch) -> None: ...
    def close(self) -> None: ...


Open = Callable[[pa.Schema], Writer]


def parquet_file(path: Path) -> Open:
    """A Parquet file with a row group a batch."""
    return lambda schema: pq.ParquetWriter(path, schema, compression="zstd")


def arrow_file(path: Path) -> Open:
    """An Arrow IPC file."""
    return lambda schema: pa.ipc.new_file(path, schema)


class Results:
    """Writes one file. Columns: see ``BatchPart`` and ``CompletedTable`` in the contracts; the first names the row."""

    def __init__(self, open_: Open, model: Model, model_version: str, row: pa.Field) -> None:
        self._version = model_version
        self._kind = _prediction_type(model)
        fields = [(row.name, row.type), ("prediction", self._kind)]
        if model.task == "classification":
            self._odds = pa.list_(pa.float32(), len(model.classes))
            fields.append(("probabilities", self._odds))
        fields += [("model_version", pa.dictionary(pa.int8(), pa.string())), ("error", pa.string())]
        self._schema = pa.schema([*fields, ("field", pa.string())])
        self._classes = len(model.classes)
        self._writer = open_(self._schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()

    def write(self, rows: pa.Array, answers: Predictions, verdicts: Verdicts) -> dict[str, int]:
        """A batch of rows; their number by error."""
        places = np.flatnonzero(verdicts.good)
        unanswered = places[[value is None for value in answers.values]] if None in answers.values else ()
        columns = [rows, self._predictions(answers.values, places, len(rows))]
        if answers.probabilities is not None:
            odds = np.full((len(rows), self._classes), np.nan, np.float32)
            odds[places] = answers.probabilities
            missing = ~verdicts.good
            missing[list(unanswered)] = True
            flat = pa.array(odds.reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, self._classes, mask=pa.array(missing)))
        for place in unanswered:
            verdicts.error[place] = "model_failed"
        versions = pa.DictionaryArray.from_arrays(np.zeros(len(rows), np.int8), pa.array([self._version]))
        columns += [versions, pa.array(verdicts.error, pa.string()), pa.array(verdicts.column, pa.string())]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        kinds, counts = np.unique(verdicts.error[verdicts.error != None].astype(str), return_counts=True)  # noqa: E711
        return dict(zip(kinds.tolist(), counts.tolist(), strict=True))

    def _predictions(self, values: Sequence[object], places: np.ndarray, rows: int) -> pa.Array:
        spread: list[object] = [None] * rows if len(values) < rows else []
        for place, value in zip(places.tolist(), values, strict=True) if spread else ():
            spread[place] = value
        every = spread or list(values)
        if pa.types.is_string(self._kind):
            every = [None if value is None else str(value) for value in every]
        return pa.array(every, self._kind)
