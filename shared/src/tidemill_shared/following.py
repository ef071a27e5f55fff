"""Following a stream without a group: each replica sees each entry, for caches only."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.registry import InvalidEvent, parse_as
from tidemill_shared.errors import Retryable
from tidemill_shared.log import logger
from tidemill_shared.nodes import Nodes

log = logger(__name__)
EventT = TypeVar("EventT", bound=Event[Any])
Callback = Callable[[EventT], Awaitable[None]]
_PAUSES = (0.2, 1.0)
"""Seconds between attempts at a callback before its event is passed over."""


async def end_of(redis: Redis, stream: str) -> str:
    """The newest entry's id. Raises redis errors."""
    newest: Any = await redis.xrevrange(stream, count=1)
    return str(newest[0][0].decode()) if newest else "0"


async def read_on(
    nodes: Nodes, position: dict[str, str], *, count: int, block_seconds: float
) -> list[tuple[str, str, dict[bytes, bytes]]]:
    """What came after ``position`` (a stream's last entry seen), which moves on: stream, entry, fields.

    In a cluster, where a read has one hash slot, each is asked in turn. Raises redis errors.
    """
    slots: dict[int, dict[Any, Any]] = defaultdict(dict)
    for stream, last in position.items():
        slots[nodes.slot(stream)][stream] = last
    found = []
    for streams in slots.values():
        block = int(block_seconds * 1000 / len(slots))
        reply: Any = await nodes.of(next(iter(streams))).xread(streams, count=count, block=max(block, 1))
        for name, entries in reply.items() if isinstance(reply, dict) else reply or ():
            found += [(name.decode(), entry.decode(), fields) for entry, fields in entries]
    position.update({stream: entry for stream, entry, _ in found})
    return found


async def follow(
    redis: Redis, stream: str, event: type[EventT], callback: Callback[EventT], last: str, block_seconds: float
) -> None:
    """Show ``callback`` each entry after ``last``, for ever; what it cannot take is said and passed over."""
    while True:
        try:
            reply: Any = await redis.xread({stream: last}, block=int(block_seconds * 1000))
        except RedisError as error:
            log.warning("cannot follow a stream", stream=stream, why=str(error))
            await asyncio.sleep(block_seconds)
            continue
        for _, entries in reply.items() if isinstance(reply, dict) else reply or ():
            for entry, fields in entries:
                last = entry.decode()
                await _show(event, callback, last, fields)


async def _show(event: type[EventT], callback: Callback[EventT], entry: str, fields: dict[bytes, bytes]) -> None:
    """An event to a follower, again when it could not take it just then."""
    for pause in (*_PAUSES, None):
        try:
            await callback(parse_as(event, fields.get(FIELD.encode(), b"")))
        except InvalidEvent as error:
            log.warning("skipped while following", type=event.type_name(), entry=entry, why=str(error))
        except (Retryable, RedisError) as error:
            if pause is not None:
                await asyncio.sleep(pause)
                continue
            log.warning("could not follow an event", type=event.type_name(), entry=entry, why=str(error))
        return
