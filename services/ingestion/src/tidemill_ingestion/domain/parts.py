"""Parquet files of accepted rows, and the index of identities. Equal rows give equal bytes."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tidemill_ingestion.domain.cleaning import CleanedRows
from tidemill_ingestion.domain.identity import Hashes
from tidemill_ingestion.domain.job import ORDINAL, ROW, TIME, Earlier, Split, WrittenPart
from tidemill_ingestion.domain.timestamps import UTC_MICROSECONDS

Rows = npt.NDArray[np.int64]


def accepted_table(cleaned: CleanedRows, target: str, first_ordinal: int) -> pa.Table:
    """The accepted rows in file order: features, target, ``tidemill_row`` (uint64), ``tidemill_time``
    (timestamp[us, UTC]), ``tidemill_ordinal`` (int64)."""
    rows = cleaned.accepted
    columns: dict[str, pa.Array] = {}
    for feature in cleaned.features.schema:
        if feature.kind == "numeric":
            columns[feature.name] = pa.array(cleaned.features.numeric[feature.name].values[rows], from_pandas=True)
        else:
            columns[feature.name] = cleaned.features.categorical[feature.name].take(pa.array(rows))
    columns[target] = cleaned.target.column(rows)
    columns[ROW] = pa.array(cleaned.hashes[rows])
    columns[TIME] = pa.array(cleaned.times[rows]).cast(UTC_MICROSECONDS)
    columns[ORDINAL] = pa.array(np.arange(first_ordinal, first_ordinal + rows.size))
    return pa.table(columns)


def write_parts(table: pa.Table, splits: dict[Split, Rows], folder: Path) -> tuple[WrittenPart, ...]:
    """One file for each split that has rows."""
    parts = []
    for split, rows in splits.items():
        if not rows.size:
            continue
        path = folder / f"{split}.parquet"
        chosen = table.take(pa.array(rows))
        pq.write_table(chosen, path, compression="zstd", write_page_checksum=False)
        times = chosen[TIME].cast(pa.int64()).to_numpy()
        ordinals = chosen[ORDINAL].to_numpy()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        parts.append(
            WrittenPart(
                split=split,
                path=path,
                sha256=digest,
                rows=rows.size,
                first_ordinal=int(ordinals[0]),
                last_ordinal=int(ordinals[-1]),
                time_min=moment(int(times.min())),
                time_max=moment(int(times.max())),
            )
        )
    return tuple(parts)


def moment(micros: int) -> datetime:
    """A datetime in UTC; exact, and before 1970 on every platform."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def known_rows(earlier: Earlier) -> tuple[Hashes, Rows]:
    """Identities and ordinals of the live rows of earlier versions, from the index or else from the parts."""
    files: Sequence[Path | None] = [earlier.index] if earlier.index else [part.path for part in earlier.parts]
    hashes, ordinals = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for file in files:
        if file is None:
            raise ValueError("neither an index nor every part's file was given")
        table = pq.read_table(file, columns=[ROW, ORDINAL])
        hashes.append(table[ROW].to_numpy())
        ordinals.append(table[ORDINAL].to_numpy())
    rows, numbers = np.concatenate(hashes), np.concatenate(ordinals)
    live = numbers >= earlier.from_ordinal
    return rows[live], numbers[live]


def write_index(hashes: Hashes, ordinals: Rows, from_ordinal: int, path: Path) -> Path:
    """The identities of all live rows, so that the next arrival need not open every part."""
    live = ordinals >= from_ordinal
    table = pa.table({ROW: hashes[live], ORDINAL: ordinals[live]})
    pq.write_table(table, path, compression="none", use_dictionary=False)
    return path
