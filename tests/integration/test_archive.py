"""The control plane's events in the object store, and back in the streams of a new Redis."""

import gzip
from typing import Any

import pytest

from tidemill_console.recovery.past import Past
from tidemill_contracts.artifacts import EVENT_LOG_PREFIX
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import TrainingRequested
from tidemill_contracts.model import RequestedTraining
from tidemill_contracts.streams import stream_key
from tidemill_shared import archive
from tidemill_shared.archive import Archive, archived
from tidemill_shared.bus import Bus
from tidemill_shared.delivery import Completion, Mailbox, delivery_of
from tidemill_shared.errors import Retryable
from tidemill_shared.settings import Settings
from tidemill_shared.testing.platform import Platform

TYPE = "training.requested.v1"


def requested() -> TrainingRequested:
    return TrainingRequested.root(RequestedTraining(), subject="demo", source="urn:test")


async def test_history_outlives_redis(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_ENTRIES", 4)
    settings = platform.settings(Settings)
    bus = Bus("training", settings.redis, namespace=platform.namespace)
    keeper = Archive(bus, platform.store)
    stream = stream_key(platform.namespace, TYPE)
    day = 86_400_000
    bodies = [requested().to_json() for _ in range(9)] + [b"\xff\xfe no text", b""]
    for number, body in enumerate(bodies):
        await platform.redis.xadd(stream, {FIELD: body}, id=f"{day * (2 + number // 6)}-{number + 1}")
    before: Any = await platform.redis.xrange(stream)
    assert await keeper.advance() == len(bodies)
    assert await keeper.advance() == 0
    keys = await platform.store.list(EVENT_LOG_PREFIX)
    assert len(keys) == 4  # of two days, in objects of four entries at most
    async with bus.lock("archive:training"):
        with pytest.raises(Retryable):
            await keeper.advance()
    # A crash before the mark was set: the same again, in other parts; readers see each entry once.
    await platform.redis.delete(f"{{{platform.namespace}}}:training:archived:{TYPE}")
    monkeypatch.setattr(archive, "_ENTRIES", 100)
    assert await keeper.advance() == len(bodies)
    found = dict([part async for part in archived(platform.store)])
    assert [(a.entry.encode(), {FIELD.encode(): a.body}) for a in found[TYPE]] == before
    data = await platform.store.read(keys[0])
    assert data is not None
    assert b"training.requested" in gzip.decompress(data)

    await platform.redis.delete(stream)
    past = await Past.read(platform.store, 365 * 100)
    assert await past.bring_back(platform.redis, platform.namespace) == {TYPE: len(bodies)}
    assert await platform.redis.xrange(stream) == before
    # As read by everybody who consumes it; what comes now is delivered.
    box = Mailbox(platform.redis, platform.namespace, "training", "1", 5.0)
    await box.open([stream])
    fresh = requested()
    await platform.publish(fresh)
    reply: Any = await platform.redis.xreadgroup("training", "1", {stream: ">"})
    entries = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
    (taken,) = [delivery_of(stream, entry, fields) for entry, fields in entries]
    assert taken.parse().id == fresh.id
    assert await box.complete(Completion(outputs=[(taken, ())])) == []
    # A stream that lives is left alone.
    assert await past.bring_back(platform.redis, platform.namespace) == {TYPE: 0}
    assert await platform.redis.xlen(stream) == len(bodies) + 1
    await bus.redis.aclose()
