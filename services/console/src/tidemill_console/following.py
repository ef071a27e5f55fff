"""What happens to one pipeline, read as a consumer without a group reads it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from tidemill_console.connection import Client
from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.streams import stream_key
from tidemill_shared.following import read_on


class Entry(NamedTuple):
    """An entry as it lies in its stream."""

    stream: str
    id: str
    body: bytes


async def follow(client: Client, pipeline: str, kinds: Iterable[type[Event[Any]]]) -> AsyncIterator[Entry]:
    """Every entry of these events' streams from the beginning, for ever; the data plane's of this pipeline alone.

    Entries of other pipelines lie in the control plane's streams too. A Redis that is away is waited for.
    """
    position = {
        stream_key(client.namespace, k.type_name(), pipeline if k.plane == "data" else None): "0" for k in kinds
    }
    while True:
        try:
            found = await read_on(client.bus.nodes, position, count=2_000, block_seconds=0.2)
        except RedisError:
            await asyncio.sleep(0.2)
            continue
        for stream, entry, fields in found:
            yield Entry(stream, entry, fields.get(FIELD.encode(), b""))
