"""Event ids as idempotency keys, dead letters in the order of their causes, consumers that are gone."""

import asyncio
import time

import pytest

from tidemill_contracts.artifacts import inbox_key
from tidemill_contracts.dataset import ArrivedData
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import DataArrived, TrainingRequested
from tidemill_contracts.model import RequestedTraining
from tidemill_shared.dead_letters import DeadLetters, in_order
from tidemill_shared.delivery import Completion, Delivery, Mailbox, delivery_of
from tidemill_shared.errors import Poison
from tidemill_shared.inbox import accept
from tidemill_shared.janitor import sweep
from tidemill_shared.testing.platform import Platform


def arrived(sha256: str, event_id: str = "key-1", pipeline: str = "p") -> DataArrived:
    data = ArrivedData(uri="s3://tidemill/raw/p/x.csv", sha256=sha256 * 64, size=3)
    return DataArrived.root(data, subject=pipeline, source="urn:test", id=event_id)


async def test_an_event_id_is_accepted_with_one_body_only(platform: Platform) -> None:
    first = arrived("a")
    await accept(platform.store, first)
    await accept(platform.store, arrived("a"))
    assert await platform.store.read(inbox_key("key-1")) == first.to_json()
    for other in (arrived("b"), arrived("a", pipeline="q")):
        with pytest.raises(Poison, match="key-1") as refused:
            await accept(platform.store, other)
        assert refused.value.code == "id_reused"
    assert await platform.store.read(inbox_key("key-1")) == first.to_json()
    await accept(platform.store, arrived("b", "key-2"))
    await platform.store.put(inbox_key("key-3"), b"{")
    with pytest.raises(Poison, match=r"inbox/key-3\.json is no event") as refused:
        await accept(platform.store, arrived("a", "key-3"))
    assert refused.value.code == "inbox"


async def take(box: Mailbox, stream: str, count: int = 100) -> list[Delivery]:
    reply = await box.redis.xreadgroup(box.group, box.consumer, {stream: ">"}, count=count)
    found = reply.values() if isinstance(reply, dict) else [entries for _, entries in reply or ()]
    return [delivery_of(stream, entry, fields) for entries in found for entry, fields in entries]


async def test_dead_letters_come_back_causes_first(platform: Platform) -> None:
    stream = f"{{{platform.namespace}}}:work"
    boxes = [Mailbox(platform.redis, platform.namespace, group, "1", 5.0) for group in ("one", "two")]
    first = TrainingRequested.root(RequestedTraining(), subject="p", source="urn:test")
    second = TrainingRequested.caused_by(first, RequestedTraining(), subject="p/2")
    third = TrainingRequested.caused_by(second, RequestedTraining(), subject="p/3")
    other = TrainingRequested.root(RequestedTraining(), subject="p", source="urn:test")
    # A producer that adds by itself may add an effect before its cause.
    for event in (third, other, first, second):
        await platform.redis.xadd(stream, {FIELD: event.to_json()})
    for box in boxes:
        await box.open([stream])
    taken = await take(boxes[0], stream)
    before = time.time()
    for delivery in reversed(taken):
        await boxes[0].complete(Completion(dead=[(delivery, "poison", "why not")]))
    await boxes[1].complete(Completion(dead=[((await take(boxes[1], stream, 1))[0], "checksum", "torn")]))
    letters = DeadLetters(platform.redis, platform.namespace)
    mine = [b async for b in letters.every(group="one")]
    assert len(mine) == 4
    assert [b.letter.reason async for b in letters.every(reason="checksum")] == ["checksum"]
    assert [b.letter.event_id for b in in_order(mine)] == [first.id, second.id, third.id, other.id]
    for buried in mine:
        assert buried.letter.arrived_at is not None
        assert buried.letter.arrived_at.timestamp() <= before <= buried.letter.at.timestamp() + 0.01
    for buried in in_order(mine):
        assert await letters.replay(buried.id)
    assert [d.parse().id for d in await take(boxes[0], stream)] == [first.id, second.id, third.id, other.id]
    assert await letters.count() == 1


async def test_a_circle_of_causes_and_bytes_that_are_no_event_end_nothing(platform: Platform) -> None:
    stream = f"{{{platform.namespace}}}:work"
    box = Mailbox(platform.redis, platform.namespace, "one", "1", 5.0)
    a = TrainingRequested.root(RequestedTraining(), subject="p", source="urn:test", id="a")
    b = a.model_copy(update={"id": "b", "causationid": "a"})
    for body in (a.model_copy(update={"causationid": "b"}).to_json(), b.to_json(), b"[", b"[1]"):
        await platform.redis.xadd(stream, {FIELD: body})
    await box.open([stream])
    await box.complete(Completion(dead=[(d, "poison", "") for d in await take(box, stream)]))
    letters = [found async for found in DeadLetters(platform.redis, platform.namespace).every()]
    assert {b.id for b in in_order(letters)} == {b.id for b in letters}
    assert len(in_order(letters)) == 4


async def test_a_consumer_that_is_gone_leaves_unless_it_holds_something(platform: Platform) -> None:
    stream = f"{{{platform.namespace}}}:work"
    boxes = [Mailbox(platform.redis, platform.namespace, "g", name, 5.0) for name in ("holds", "idle")]
    await boxes[0].open([stream])
    await platform.redis.xadd(stream, {FIELD: b"{}"})
    held = await take(boxes[0], stream)
    await platform.redis.xgroup_createconsumer(stream, "g", "idle")

    async def names() -> set[bytes]:
        return {c["name"] for c in await platform.redis.xinfo_consumers(stream, "g")}

    assert await sweep(platform.redis, [stream, f"{stream}-unknown"], "g", 3600.0) == 0
    deadline = time.monotonic() + 10
    while await names() != {b"holds"}:
        assert time.monotonic() < deadline
        await sweep(platform.redis, [stream], "g", 0.005)
        await asyncio.sleep(0.01)
    assert await boxes[0].complete(Completion(outputs=[(d, ()) for d in held])) == []
