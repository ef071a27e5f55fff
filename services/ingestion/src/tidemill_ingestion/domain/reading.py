"""A raw file as a table, whatever its format."""

from pathlib import Path

import pyarrow as pa
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
        table = read_csv(plain)
    elif format_ == "jsonl":
        table = read_json_lines(plain)
    else:
        table = _read_parquet(plain, limits)
    if plain != path:
        plain.unlink()
    if not table.num_rows:
        raise Refused("no_rows", "The file names columns but holds no rows." if table.num_columns else "No rows.")
    return table.combine_chunks()


def _read_parquet(path: Path, limits: Limits) -> pa.Table:
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            meta = file.metadata
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
