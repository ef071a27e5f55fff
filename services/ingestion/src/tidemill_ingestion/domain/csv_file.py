"""CSV, read as text: what a cell means is decided later, where changes can be counted."""

import csv
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from tidemill_ingestion.domain.job import Limits, Refused

_DELIMITERS = ",;\t|"
_BLOCK_BYTES = 8 * 1024 * 1024
_FOREIGN = {b"PAR1": "Parquet", b"PK\x03\x04": "zip or Excel", b"\xff\xfe": "UTF-16 text", b"\xfe\xff": "UTF-16 text"}
UNNAMED = "unnamed:"
"""Prefix of columns without a header (the index column some tools write)."""


def read_csv(path: Path, limits: Limits) -> pa.Table:
    """All cells as strings ("" where empty), columns named by the header.

    Raises Refused: empty_file, bad_encoding, bad_csv, no_header, bad_header, too_large, ragged_rows.
    """
    names, delimiter = _header(path)
    if len(names) > limits.columns:
        message = f"The header names {len(names)} columns, at most {limits.columns} are taken."
        raise Refused("too_large", message, count=len(names))
    ragged: list[tuple[int | None, int]] = []

    def on_ragged(row: pacsv.InvalidRow) -> str:
        if not ragged:
            ragged.append((row.number, row.actual_columns))
        else:
            ragged.append((None, 0))
        return "skip"

    try:
        table = pacsv.read_csv(
            path,
            # One thread: the reader numbers its rows only then.
            read_options=pacsv.ReadOptions(column_names=names, skip_rows=1, use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_ragged
            ),
            convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid as error:
        if "invalid UTF8" in str(error):
            raise Refused("bad_encoding", f"The file is not UTF-8: {_plain(error)}.") from None
        raise Refused("bad_csv", f"The file cannot be read as CSV: {_plain(error)}.") from None
    if ragged:
        number, cells = ragged[0]
        where = f"the first is line {number}" if number is not None else "position unknown"
        raise Refused(
            "ragged_rows",
            f"{len(ragged)} rows do not have the header's {len(names)} cells; {where} with {cells}. "
            "A missing quote or an unquoted separator is the usual cause.",
            count=len(ragged),
        )
    return table


def _header(path: Path) -> tuple[list[str], str]:
    with path.open("rb") as raw:
        start = raw.read(4)
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            code = "bad_encoding" if "UTF-16" in what else "bad_csv"
            raise Refused(code, f"The file looks like {what}, not like CSV in UTF-8.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline(1_000_000)
    except UnicodeDecodeError as error:
        raise Refused("bad_encoding", f"The header is not UTF-8 (byte {error.start}).") from None
    if not line.strip():
        raise Refused("no_header", "The first line is empty; it must name the columns.")
    delimiter = max(_DELIMITERS, key=line.count)
    try:
        names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter, strict=True))]
    except csv.Error as error:
        raise Refused("bad_header", f"The header cannot be read: {error}.") from None
    if sum(_is_number(name) for name in names) > len(names) / 2:
        raise Refused("no_header", "Most cells of the first line are numbers; it must name the columns.")
    names = [name or f"{UNNAMED}{position}" for position, name in enumerate(names)]
    doubled = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubled:
        raise Refused("bad_header", f"The header names {doubled[0]!r} more than once.", column=doubled[0])
    return names, delimiter


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(error: Exception) -> str:
    # Arrow quotes cells behind a colon; rows must not travel in events.
    return str(error).splitlines()[0].split(": ")[0].removeprefix("CSV parse error").strip() or "malformed"
