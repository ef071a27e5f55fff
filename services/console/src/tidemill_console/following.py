"""What happens to one pipeline, read as a consumer without a group reads it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from tidemill_console.connection import Client
from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.streams import stream_key


class Entry(NamedTuple):
    """An entry as it lies in its stream."""

    stream: str
    id: str
    body: bytes


async def follow(client: Client, pipeline: str, kinds: Iterable[type[Event[Any]]]) -> AsyncIterator[Entry]:
    """Every entry of these events' streams from the beginning, for ever; the data plane's of this pipeline alone.

    Entries of other pipelines lie in the control plane's streams too. A Redis that is away is waited for.
    """
    position: dict[Any, Any] = {
        stream_key(client.namespace, k.type_name(), pipeline if k.plane == "data" else None): "0" for k in kinds
    }
    while True:
        try:
            reply: Any = await client.bus.redis.xread(dict(position), count=2_000, block=200)
        except RedisError:
            await asyncio.sleep(0.2)
            continue
        for name, entries in reply.items() if isinstance(reply, dict) else reply or ():
            for entry, fields in entries:
                position[name.decode()] = entry.decode()
                yield Entry(name.decode(), entry.decode(), fields.get(FIELD.encode(), b""))
