"""The row policy: which ordinals are live."""

from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from tidemill_ingestion.domain.job import ORDINAL, SPLITS, EarlierPart, Split, WrittenPart


def first_live(next_ordinal: int, from_ordinal: int, window_rows: int | None) -> int:
    """The ordinal a sliding window starts at, so that at most ``window_rows`` newest rows stay; it never goes back."""
    return from_ordinal if window_rows is None else max(from_ordinal, next_ordinal - window_rows)


def live_parts(parts: Sequence[EarlierPart], from_ordinal: int) -> tuple[int, ...]:
    """Positions of the parts that hold at least one live row."""
    return tuple(position for position, part in enumerate(parts) if part.last_ordinal >= from_ordinal)


def live_rows(parts: Sequence[EarlierPart | WrittenPart], from_ordinal: int) -> dict[Split, int]:
    """Live rows by split. A part across the border is counted by reading its ordinals, so it needs its path."""
    rows: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    for part in parts:
        if part.first_ordinal >= from_ordinal:
            rows[part.split] += part.rows
        elif part.last_ordinal >= from_ordinal:
            if part.path is None:
                raise ValueError("a part across the window's border came without its file")
            ordinals = pq.read_table(part.path, columns=[ORDINAL])[ORDINAL].to_numpy()
            rows[part.split] += int(np.count_nonzero(ordinals >= from_ordinal))
    return rows
