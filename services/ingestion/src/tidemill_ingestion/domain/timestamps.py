"""Event times: ISO 8601 dates and times, with or without zone, before 1970 too."""

import re
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill_ingestion.domain.coercion import is_text, texts

UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
_YEAR = re.compile(r"\d{4}")
_NAIVE = pa.timestamp("us")
MISSING = np.iinfo(np.int64).min


def timestamps(column: pa.Array) -> npt.NDArray[np.int64]:
    """Microseconds since 1970 in UTC; ``MISSING`` where a cell is empty or is no time. Times without zone are UTC.

    A whole number is a year (ISO 8601 with reduced precision), never an epoch: nobody could tell its unit.
    """
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    if is_text(column.type):
        return _parsed(texts(column).values)
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        return _micros(column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False))
    return np.full(len(column), MISSING, np.int64)


def _micros(column: pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(pc.fill_null(column.cast(pa.int64()), MISSING).to_numpy(zero_copy_only=False), np.int64)


def _parsed(text: pa.Array) -> npt.NDArray[np.int64]:
    for type_ in (_NAIVE, UTC_MICROSECONDS):
        try:
            return _micros(text.cast(type_))
        except pa.ArrowInvalid:
            continue
    encoded = pc.dictionary_encode(text)
    table = np.array([_one(word) for word in encoded.dictionary.to_pylist()] + [MISSING], np.int64)
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return np.asarray(table[codes], np.int64)


def _one(word: str) -> int:
    try:
        moment = datetime(int(word), 1, 1) if _YEAR.fullmatch(word) else datetime.fromisoformat(word)
    except ValueError:
        return int(MISSING)
    return micros(moment)


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of a datetime; one without zone is UTC. Exact, unlike ``timestamp()``."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
