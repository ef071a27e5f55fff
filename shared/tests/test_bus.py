import asyncio
import contextlib
from collections.abc import Awaitable
from datetime import UTC, datetime

import pytest

from tidemill_contracts.envelope import FIELD, child_id
from tidemill_contracts.events import (
    EventDeadLettered,
    PredictionCompleted,
    PredictionRequested,
    RollbackRequested,
    TrainingRequested,
)
from tidemill_contracts.model import RequestedTraining
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.prediction import CompletedPrediction, RequestedPrediction
from tidemill_contracts.promotion import RequestedRollback
from tidemill_contracts.registry import parse_as
from tidemill_contracts.streams import state_key, stream_key
from tidemill_shared.child import Child
from tidemill_shared.dead_letters import DeadLetters
from tidemill_shared.delivery import Completion, Delivery, Mailbox
from tidemill_shared.errors import ChildDied, Poison, Retryable, StaleState
from tidemill_shared.service import Service
from tidemill_shared.settings import DeliverySettings, Settings
from tidemill_shared.testing.platform import Platform


def requested(reason: str = "please") -> TrainingRequested:
    return TrainingRequested.root(RequestedTraining(reason=reason), subject="demo", source="urn:test")


async def on_training_requested(event: TrainingRequested) -> RollbackRequested:
    return RollbackRequested.caused_by(event, RequestedRollback(by="test", reason=event.data.reason))


async def poll(condition, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_an_event_published_before_the_first_start_is_handled_once(platform: Platform) -> None:
    event = requested()
    await platform.publish(event)
    service = Service("echo", platform.settings(Settings))
    service.bus.consume(on_training_requested)
    async with platform.running(service):
        answer = await platform.wait_for(RollbackRequested)
    assert answer.id == child_id(event.id, "rollback.requested.v1", "demo")
    assert answer.causationid == event.id
    stream = stream_key(platform.namespace, "training.requested.v1")
    assert (await platform.redis.xpending(stream, "echo"))["pending"] == 0


class SlowChild(Child):
    """Becomes warm when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def warm(self) -> None:
        await self.may.wait()


async def test_events_are_taken_before_the_children_are_warm(platform: Platform) -> None:
    child, stop = SlowChild(), asyncio.Event()
    service = Service("echo", platform.settings(Settings))
    service.bus.consume(on_training_requested)
    service.employ(child)
    await platform.publish(requested())
    running = asyncio.create_task(service.run(stop))
    await platform.wait_for(RollbackRequested)
    assert await service._probe() == "not warmed up"
    child.may.set()
    await poll(lambda: _is_none(service._probe()))
    stop.set()
    assert await running == 0


async def test_a_child_that_cannot_be_had_ends_its_service(platform: Platform) -> None:
    class NoChild(Child):
        async def warm(self) -> None:
            raise ChildDied("no memory")

    service = Service("echo", platform.settings(Settings))
    service.employ(NoChild())
    assert await service.run(asyncio.Event()) == 1


async def _is_none(found: Awaitable[object]) -> bool:
    return await found is None


async def test_poison_is_set_aside_with_its_bytes_and_can_be_replayed(platform: Platform) -> None:
    stream = stream_key(platform.namespace, "training.requested.v1")
    await platform.redis.xadd(stream, {FIELD: b"\xff not json"})
    await platform.redis.xadd(stream, {"other": b"field"})
    good = requested()
    refusing = True

    async def on_requested(event: TrainingRequested) -> RollbackRequested:
        if refusing:
            raise Poison("checksum", "the bytes are wrong")
        return RollbackRequested.caused_by(event, RequestedRollback(by="test"))

    await platform.publish(good)
    service = Service("picky", platform.settings(Settings))
    service.bus.consume(on_requested)
    letters = DeadLetters(platform.redis, platform.namespace)
    async with platform.running(service):

        async def three() -> bool:
            return await letters.count() == 3

        await poll(three)
        buried = await letters.list()
        assert [b.letter.reason for b in buried] == ["undecodable", "undecodable", "checksum"]
        assert buried[0].body == b"\xff not json"
        assert buried[2].letter.event_id == good.id
        assert len(await platform.events(EventDeadLettered)) == 3
        refusing = False
        assert await letters.replay(buried[2].id)
        await platform.wait_for(RollbackRequested)
    assert await letters.count() == 2


async def test_what_a_dead_consumer_left_is_taken_over(platform: Platform) -> None:
    stream = stream_key(platform.namespace, "training.requested.v1")
    await platform.redis.xgroup_create(stream, "echo", "0", mkstream=True)
    await platform.publish(requested())
    assert await platform.redis.xreadgroup("echo", "echo-dead", {stream: ">"})
    service = Service("echo", platform.settings(Settings))
    service.bus.consume(on_training_requested)
    async with platform.running(service):
        await platform.wait_for(RollbackRequested)
    assert len(await platform.events(RollbackRequested)) == 1


async def test_an_entry_that_must_wait_longer_hides_no_other(platform: Platform) -> None:
    stream = f"{{{platform.namespace}}}:work"
    box = Mailbox(platform.redis, platform.namespace, "g", "alive", lease_seconds=2.0)
    await box.open([stream])
    often, once = [await platform.redis.xadd(stream, {FIELD: b"{}"}) for _ in range(2)]
    await platform.redis.xreadgroup("g", "dead", {stream: ">"})

    async def idle(entry: bytes, seconds: float, deliveries: int) -> None:
        await platform.redis.xclaim(
            stream, "g", "dead", 0, [entry], idle=int(seconds * 1000), retrycount=deliveries, force=True
        )

    await idle(often, 5.0, 3)  # its fourth delivery comes after four leases
    await idle(once, 5.0, 1)
    assert [(d.entry.encode(), d.deliveries) for d in await box.reclaim(stream, count=1)] == [(once, 2)]
    assert await box.reclaim(stream, count=1) == []
    await idle(often, 9.0, 3)
    assert [(d.entry.encode(), d.deliveries) for d in await box.reclaim(stream, count=1)] == [(often, 4)]


async def test_streams_with_overdue_entries_are_found_together(platform: Platform) -> None:
    lapsed, held, quiet, groupless = (f"{{{platform.namespace}}}:{n}" for n in ("lapsed", "held", "quiet", "groupless"))
    box = Mailbox(platform.redis, platform.namespace, "g", "alive", lease_seconds=60.0)
    await box.open([held, lapsed, quiet])
    for stream in (lapsed, held, groupless):
        await platform.redis.xadd(stream, {FIELD: b"{}"})
    await platform.redis.xreadgroup("g", "dead", {held: ">"})
    [[_, [(entry, _)]]] = await platform.redis.xreadgroup("g", "dead", {lapsed: ">"})
    await platform.redis.xclaim(lapsed, "g", "dead", 0, [entry], idle=61_000, retrycount=1)
    assert await box.overdue([held, groupless, lapsed, quiet]) == [lapsed]
    await box.reclaim(lapsed, count=1)
    assert await box.overdue([held, groupless, lapsed, quiet]) == []


async def test_an_entry_that_always_fails_ends_in_the_dead_letters(platform: Platform) -> None:
    attempts = 0

    async def on_requested(event: TrainingRequested) -> None:
        nonlocal attempts
        attempts += 1
        raise Retryable("not today")

    settings = platform.settings(Settings)
    settings = settings.model_copy(
        update={"delivery": settings.delivery.model_copy(update={"lease_seconds": 0.3, "max_deliveries": 2})}
    )
    service = Service("tired", settings)
    service.bus.consume(on_requested)
    await platform.publish(requested())
    async with platform.running(service):
        notice = await platform.wait_for(EventDeadLettered)
    assert notice.data.reason == "deliveries"
    assert attempts >= 2


async def test_what_a_handler_cannot_parse_says_nothing_about_its_event(platform: Platform) -> None:
    """Another event that it read, from a store that answered nonsense: the entry is tried again, not buried."""
    attempts = 0

    async def on_requested(event: TrainingRequested) -> RollbackRequested:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            parse_as(TrainingRequested, b"{")
        return await on_training_requested(event)

    settings = platform.settings(Settings, delivery=DeliverySettings(lease_seconds=0.3, block_seconds=0.1))
    service = Service("reader", settings)
    service.bus.consume(on_requested)
    await platform.publish(requested())
    async with platform.running(service):
        await platform.wait_for(RollbackRequested)
    assert attempts == 2
    assert await DeadLetters(platform.redis, platform.namespace).count() == 0


async def test_a_zombie_cannot_complete_what_was_taken_over(platform: Platform) -> None:
    stream = stream_key(platform.namespace, "training.requested.v1")
    bus = platform.bus
    await bus.mailbox.open([stream])
    await platform.publish(requested())
    [(entry, fields)] = await _read(platform, stream)
    delivery = Delivery(stream, "training.requested.v1", entry.decode(), fields[FIELD.encode()])
    await platform.redis.xclaim(stream, "test", "test-2", 0, [entry])
    refused = await bus.mailbox.complete(Completion(outputs=[(delivery, [requested()])]))
    assert refused == [delivery]
    assert await bus.mailbox.renew([delivery]) == [delivery.entry]
    assert await platform.redis.xlen(stream) == 1
    owner = (await platform.redis.xpending_range(stream, "test", "-", "+", 1))[0]["consumer"]
    assert owner == b"test-2"


async def _read(platform: Platform, stream: str):
    reply = await platform.redis.xreadgroup("test", "test-1", {stream: ">"})
    entries = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
    return [entries[0]] if not isinstance(entries[0], list) else entries[0]


async def test_state_and_acknowledgement_change_together_or_not_at_all(platform: Platform) -> None:
    stream = stream_key(platform.namespace, "training.requested.v1")
    key = state_key(platform.namespace, "test", "version")
    mailbox = platform.bus.mailbox
    await mailbox.open([stream])
    await platform.publish(requested())
    [(entry, fields)] = await _read(platform, stream)
    delivery = Delivery(stream, "training.requested.v1", entry.decode(), fields[FIELD.encode()])
    done = Completion(outputs=[(delivery, [])], writes=[("SET", key, "1")], guard=(key, None))
    assert await mailbox.complete(done) == []
    assert await platform.redis.get(key) == b"1"
    with pytest.raises(StaleState):
        await platform.bus.commit(writes=[("SET", key, "2")], guard=(key, None))
    assert await mailbox.complete(done.__class__(outputs=[(delivery, [])], writes=[("SET", key, "3")])) == [delivery]
    assert await platform.redis.get(key) == b"1"


async def test_lanes_answer_every_request_of_every_pipeline(platform: Platform) -> None:
    async def on_batch(pipeline: str, batch: list[Delivery]) -> Completion:
        done = Completion()
        for delivery in batch:
            event = delivery.parse()
            answer = CompletedPrediction(
                prediction_id=event.id, prediction=1, model_version="0" * 12, dataset_version="1" * 12
            )
            done.outputs.append((delivery, [PredictionCompleted.caused_by(event, answer)]))
        return done

    service = Service("lanes", platform.settings(Settings))
    service.bus.lanes([PredictionRequested], on_batch, max_records=16)
    names = ["one", "two"]
    requests = [
        PredictionRequested.root(
            RequestedPrediction(features={"x": i}), subject=name, source="urn:test", time=datetime.now(UTC)
        )
        for name in names
        for i in range(100)
    ]
    await platform.publish(*requests)
    async with platform.running(service):
        for name in names:  # declared while running
            await platform.declare(PipelineSpec(name=name, task="classification", target="y", primary="f1"))

        async def all_answered() -> bool:
            counts = [len(await platform.events(PredictionCompleted, n)) for n in names]
            return counts == [100, 100]

        await poll(all_answered)
    for name in names:
        answers = await platform.events(PredictionCompleted, name)
        assert {a.data.prediction_id for a in answers} == {r.id for r in requests if r.pipeline == name}


async def test_a_lock_is_held_by_one_at_a_time(platform: Platform) -> None:
    inside = most = 0

    async def work() -> None:
        nonlocal inside, most
        async with platform.bus.lock("thing"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.02)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(5)))
    assert most == 1
    async with platform.bus.lock("thing"):
        with pytest.raises(Retryable):
            async with platform.bus.lock("thing", patience_seconds=0.1):
                raise AssertionError("entered")
    with contextlib.suppress(Retryable):
        async with platform.bus.lock("thing", patience_seconds=0.1):
            inside = 7
    assert inside == 7


async def test_a_lost_group_ends_the_service_with_a_failure(platform: Platform) -> None:
    service = Service("echo", platform.settings(Settings))
    service.bus.consume(on_training_requested)
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(stop))
    async with asyncio.timeout(10):
        while service.port is None:
            await asyncio.sleep(0.01)
    await platform.redis.delete(stream_key(platform.namespace, "training.requested.v1"))
    async with asyncio.timeout(10):
        assert await task == 1
