"""A raw file as a table, whatever its format."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemill_ingestion.domain.csv_file import read_csv
from tidemill_ingestion.domain.job import Format, Limits, Refused
from tidemill_ingestion.domain.json_lines import read_json_lines
from tidemill_ingestion.domain.unpacking import unpack


def read(path: Path, format_: Format, folder: Path, *, gzip_expected: bool, limits: Limits) -> pa.Table:
    """The file's rows in their order; nothing is interpreted yet, so CSV columns are strings.

    Raises Refused with the code of what is wrong with the file, or ``no_rows``.
    """
    plain = unpack(path, folder / "unpacked", gzip_expected=gzip_expected, limits=limits)
    if format_ == "csv":
        table = read_csv(plain, limits)
    elif format_ == "jsonl":
        table = read_json_lines(plain, limits)
    else:
        table = _read_parquet(plain, limits)
    if plain != path:
        plain.unlink()
    _bounded(table, limits)
    if not table.num_rows:
        raise Refused("no_rows", "The file names columns but holds no rows." if table.num_columns else "No rows.")
    return table.combine_chunks()


def check_shape(rows: int, columns: int, limits: Limits) -> None:
    """Raises Refused("too_large")."""
    if rows > limits.rows:
        raise Refused("too_large", f"The file has {rows} rows, at most {limits.rows} are taken: split it.", count=rows)
    if columns > limits.columns:
        message = f"The file has {columns} columns, at most {limits.columns} are taken."
        raise Refused("too_large", message, count=columns)


def _bounded(table: pa.Table, limits: Limits) -> None:
    check_shape(table.num_rows, table.num_columns, limits)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_binary(column.type):
            longest = pc.max(pc.binary_length(column)).as_py() or 0
            if longest > limits.field_bytes:
                message = f"A value has {longest} bytes, at most {limits.field_bytes} are taken."
                raise Refused("too_large", message, column=name[:200], count=longest)


def _read_parquet(path: Path, limits: Limits) -> pa.Table:
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            meta = file.metadata
            check_shape(meta.num_rows, meta.num_columns, limits)
            unpacked = sum(meta.row_group(group).total_byte_size for group in range(meta.num_row_groups))
            if unpacked > limits.unpacked_bytes:
                raise Refused("too_large", f"The file unpacks to more than {limits.unpacked_bytes} bytes: split it.")
            names = file.schema_arrow.names
            if len(set(names)) != len(names):
                raise Refused("bad_header", "A column name appears more than once.")
            return file.read()
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0][:200]
        raise Refused("bad_parquet", f"The file cannot be read as Parquet: {first}") from None
