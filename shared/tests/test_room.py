"""Little room, and none: who publishes is told to come back, and what is under way waits and is done once."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis.exceptions import OutOfMemoryError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import PredictionRequested, RollbackRequested, TrainingRequested
from tidemill_contracts.model import RequestedTraining
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_contracts.promotion import RequestedRollback
from tidemill_contracts.streams import stream_key
from tidemill_shared.dead_letters import DeadLetters
from tidemill_shared.delivery import Completion, Delivery
from tidemill_shared.errors import Overloaded
from tidemill_shared.health import build_server
from tidemill_shared.room import Room, backlog, memory_share
from tidemill_shared.service import Service
from tidemill_shared.settings import DeliverySettings, Settings
from tidemill_shared.testing.platform import Platform
from tidemill_shared.tidying import tidy

QUICK: dict[str, Any] = {"lease_seconds": 0.4, "block_seconds": 0.1, "max_deliveries": 1}


def requested() -> TrainingRequested:
    return TrainingRequested.root(RequestedTraining(), subject="demo", source="urn:test")


@contextlib.asynccontextmanager
async def limited(platform: Platform, *, share: float) -> AsyncIterator[None]:
    """A Redis of whose memory this share is used; more than 1 means that nothing can be written."""
    used = int((await platform.redis.info("memory"))["used_memory"])
    await platform.redis.config_set("maxmemory", int(used / share))
    try:
        yield
    finally:
        await platform.redis.config_set("maxmemory", 0)


async def test_publishers_are_told_to_come_back_before_redis_is_full(platform: Platform) -> None:
    service = Service("door", platform.settings(Settings))
    event = requested()
    assert await memory_share(platform.redis) == 0.0
    async with limited(platform, share=0.92):
        assert 0.8 < await memory_share(platform.redis) < 1
        with pytest.raises(Overloaded, match="full") as refused:
            await service.bus.offer(event)
        assert refused.value.retry_after_seconds > 0
        await service.bus.publish(event)  # what services say among themselves still fits: that is what the rest is for
    later = requested()
    while True:
        with contextlib.suppress(Overloaded):
            await service.bus.offer(later)
            break
        await asyncio.sleep(0.05)
    assert [found.id for found in await platform.events(TrainingRequested)] == [event.id, later.id]
    await service.bus.redis.aclose()


async def test_what_a_route_raises_is_an_answer_with_a_time_and_a_reason() -> None:
    async def upload(_: Request) -> Response:
        raise Overloaded("Redis is 91% full", retry_after_seconds=1.2)

    async def fine() -> None:
        return None

    server = build_server("door", "127.0.0.1", 0, fine, [Route("/upload", upload, methods=["POST"])])
    transport = httpx.ASGITransport(app=server.config.app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
        answer = await client.post("/upload")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert answer.json() == {"error": "Redis is 91% full"}


async def test_a_streams_backlog_is_what_its_slowest_group_has_not_read(platform: Platform) -> None:
    stream = stream_key(platform.namespace, "training.requested.v1")
    room = Room(platform.redis, DeliverySettings(max_backlog=100))
    assert (await backlog(platform.redis, stream))[0] == 0
    await room.check(stream)
    for group in ("quick", "slow"):
        await platform.redis.xgroup_create(stream, group, "0", mkstream=True)
    for milliseconds in range(1, 201):
        await platform.redis.xadd(stream, {FIELD: b"{}"}, id=f"{milliseconds}-0")
    await platform.redis.xreadgroup("quick", "1", {stream: ">"}, count=200)
    await platform.redis.xreadgroup("slow", "1", {stream: ">"}, count=50)
    waiting, group = await backlog(platform.redis, stream)
    assert group == "slow"
    assert waiting == pytest.approx(150, abs=2)
    with pytest.raises(Overloaded, match="slow"):
        await Room(platform.redis, DeliverySettings(max_backlog=100)).check(stream)
    await Room(platform.redis, DeliverySettings(max_backlog=400)).check(stream)
    await platform.redis.xreadgroup("slow", "1", {stream: ">"}, count=200)
    assert (await backlog(platform.redis, stream))[0] == 0


async def test_under_pressure_what_was_answered_goes_earlier_and_what_was_not_stays(platform: Platform) -> None:
    stream = stream_key(platform.namespace, "prediction.requested.v1", "p")
    settings = DeliverySettings(prediction_retention_seconds=86_400.0, pressed_retention_seconds=600.0)
    await platform.redis.config_set("stream-node-max-entries", 1)  # whole nodes are removed
    try:
        await platform.redis.xgroup_create(stream, "g", "0", mkstream=True)
        hour_ago = int((time.time() - 3600) * 1000)
        for number in range(6):
            await platform.redis.xadd(stream, {FIELD: b"{}"}, id=f"{hour_ago}-{number}")
        await platform.redis.xreadgroup("g", "1", {stream: ">"}, count=4)
        await platform.redis.xack(stream, "g", f"{hour_ago}-0", f"{hour_ago}-1", f"{hour_ago}-3")
        await platform.redis.xadd(stream, {FIELD: b"{}"})

        async def length() -> int:
            await tidy(platform.bus.nodes, "g", settings, control=[], lanes=[stream], read=[stream])
            return int(await platform.redis.xlen(stream))

        assert await length() == 7
        async with limited(platform, share=0.8):
            assert await length() == 5  # from the lowest that is pending on
        await platform.redis.xack(stream, "g", f"{hour_ago}-2")
        assert await length() == 5
        async with limited(platform, share=0.8):
            assert await length() == 4  # the last that was delivered; the unread ones; the fresh one
    finally:
        await platform.redis.config_set("stream-node-max-entries", 100)


async def test_a_full_redis_delays_and_neither_buries_nor_doubles(platform: Platform) -> None:
    """With one delivery allowed: had waiting cost a delivery, the events would end in the dead letters."""
    service = Service("worker", platform.settings(Settings, delivery=QUICK))
    asked = [requested() for _ in range(3)]
    rows = [
        PredictionRequested.root(RequestedPrediction(features={"x": n}), subject="p", source="urn:test")
        for n in range(20)
    ]
    taken = asyncio.Event()
    answers = stream_key(platform.namespace, "prediction.completed.v1", "p")

    async def on_requested(event: TrainingRequested) -> RollbackRequested:
        taken.set()
        async with service.bus.lock("a"):  # a write of the handler's own
            return RollbackRequested.caused_by(event, RequestedRollback(by="test", reason="x"))

    async def on_batch(_: str, batch: list[Delivery]) -> Completion:
        return Completion(outputs=[(d, [(answers, d.body)]) for d in batch])

    service.bus.consume(on_requested)
    service.bus.lanes([PredictionRequested], on_batch, max_records=8)
    async with platform.running(service):
        await service.bus.serve("p")
        pipe = platform.redis.pipeline(transaction=True)
        for event in (*asked, *rows):
            pipe.xadd(event.stream(platform.namespace), {FIELD: event.to_json()})
        pipe.config_set("maxmemory", 1)
        try:
            await pipe.execute()
            await asyncio.wait_for(taken.wait(), 10)
            with pytest.raises(OutOfMemoryError):
                await platform.redis.xadd(answers, {FIELD: b"{}"})
            await asyncio.sleep(4 * QUICK["lease_seconds"])  # several leases long: a reclaimer had its chance
            assert await platform.redis.xlen(answers) == 0
            assert await service._probe() is None
        finally:
            await platform.redis.config_set("maxmemory", 0)
        async with asyncio.timeout(20):
            while await platform.redis.xlen(answers) < len(rows):
                await asyncio.sleep(0.02)
            while len(await platform.events(RollbackRequested)) < len(asked):
                await asyncio.sleep(0.02)
    assert await DeadLetters(platform.redis, platform.namespace).count() == 0
    assert await platform.redis.xlen(answers) == len(rows)
    assert len(await platform.events(RollbackRequested)) == len(asked)
