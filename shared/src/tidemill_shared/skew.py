"""The store's clock: requests are signed with the time, and a server refuses those that are minutes off its own."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import minio.time

from tidemill_shared.log import logger

log = logger(__name__)
_TOLERANCE = timedelta(minutes=2)
"""Servers allow for 5 to 15 minutes; their Date header has whole seconds."""
_offset = timedelta()


def now() -> datetime:
    """The time as the store sees it."""
    return datetime.now(UTC) + _offset


def adopt(date: str | None) -> bool:
    """Go by the clock of the server that sent this ``Date`` header from now on; whether that changes anything."""
    global _offset
    try:
        told = parsedate_to_datetime(date or "")
    except ValueError:
        return False
    if abs(told - now()) < _TOLERANCE:
        return False
    _offset = told - datetime.now(UTC)
    log.warning(
        "this machine's clock is not the store's: set one of them right", seconds=round(_offset.total_seconds())
    )
    return True


minio.time.utcnow = now  # the client has no parameter for it
