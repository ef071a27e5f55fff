"""The rows of a Parquet, CSV or Arrow file in chunks of a fixed size, in memory that does not grow with the file."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from tidemill_serving.scoring.job import Format

_BUFFER_BYTES = 1 << 20
_BLOCK_BYTES = 4 << 20
"""Of CSV text read at once."""


class Unusable(Exception):
    """The file cannot be scored; ``code`` and the message say why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def rows_of(path: Path, format_: Format) -> int | None:
    """How many rows there are, where the file says so. Raises Unusable."""
    return _parquet(path).metadata.num_rows if format_ == "parquet" else None


def chunks(path: Path, format_: Format, columns: Sequence[str], size: int, skip: int) -> Iterator[pa.RecordBatch]:
    """Batches of exactly ``size`` rows (the last may have fewer) of these columns, from row ``skip`` on.

    CSV columns are all text; "" is null. Raises Unusable: a column is missing, or the file cannot be read.
    """
    try:
        batches = _batches(path, format_, columns)
        yield from _exactly(_after(batches, skip), size)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise Unusable("unreadable", f"the file cannot be read: {str(error)[:500]}") from None


def _batches(path: Path, format_: Format, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    if format_ == "parquet":
        return _from_parquet(path, columns)
    return _from_arrow(path, columns) if format_ == "arrow" else _from_csv(path, format_, columns)


def _from_arrow(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """An IPC file, or else a stream."""
    with pa.OSFile(str(path)) as source:
        try:
            file = pa.ipc.open_file(source)
            found = (file.get_batch(i) for i in range(file.num_record_batches))
        except pa.ArrowInvalid:
            source.seek(0)
            file = pa.ipc.open_stream(source)
            found = iter(file)
        _all_there(columns, file.schema.names)
        if len(set(file.schema.names)) < len(file.schema.names):
            raise Unusable("unreadable", "two columns have one name")
        for batch in found:
            batch.validate(full=True)
            yield batch.select(list(columns))


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise Unusable("unreadable", f"this is no Parquet file: {str(error)[:500]}") from None


def _from_parquet(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    file = _parquet(path)
    _all_there(columns, file.schema_arrow.names)
    # One thread: several read columns ahead, which costs memory.
    yield from file.iter_batches(batch_size=8_192, columns=list(columns), use_threads=False)


def _from_csv(path: Path, format_: Format, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    source: pa.NativeFile = pa.OSFile(str(path))
    if format_ == "csv.gz":
        source = pa.CompressedInputStream(source, "gzip")
    text = pacsv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()),
        include_columns=list(columns),
        include_missing_columns=True,
        null_values=[""],
        strings_can_be_null=True,
    )
    options = pacsv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False)
    _all_there(columns, _header(path, format_))
    yield from pacsv.open_csv(source, read_options=options, convert_options=text)


def _header(path: Path, format_: Format) -> list[str]:
    source: pa.NativeFile = pa.OSFile(str(path))
    if format_ == "csv.gz":
        source = pa.CompressedInputStream(source, "gzip")
    names: list[str] = pacsv.open_csv(source, read_options=pacsv.ReadOptions(use_threads=False)).schema.names
    return names


def _all_there(columns: Sequence[str], names: Sequence[str]) -> None:
    for column in columns:
        if column not in names:
            there = ", ".join(names[:20])
            raise Unusable("missing_column", f"there is no column {column!r}; there are {there}"[:1000])


def _after(batches: Iterator[pa.RecordBatch], skip: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        taken = min(skip, len(batch))
        skip -= taken
        if taken < len(batch):
            yield batch.slice(taken)


def _exactly(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """Cut anew: what a chunk holds must not depend on where a run began."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        while len(batch):
            part = batch.slice(0, size - rows)
            held.append(part)
            rows += len(part)
            batch = batch.slice(len(part))
            if rows == size:
                yield _one(held)
                held, rows = [], 0
    if held:
        yield _one(held)


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
