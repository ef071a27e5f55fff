"""Where to stop: a stream of nothing but poison is left alone until an operator resumes it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import PredictionRequested, TrainingRequested
from tidemill_contracts.model import RequestedTraining
from tidemill_contracts.streams import stream_key
from tidemill_shared.dead_letter_limit import DeadLetterLimit
from tidemill_shared.dead_letters import DeadLetters
from tidemill_shared.delivery import Completion, Delivery
from tidemill_shared.halts import halted, resume
from tidemill_shared.service import Service
from tidemill_shared.settings import Settings
from tidemill_shared.testing.platform import Platform

TYPE = "training.requested.v1"
LIMITS: dict[str, Any] = {"dead_letter_limit": 4, "lease_seconds": 0.5, "block_seconds": 0.1}


def requested() -> TrainingRequested:
    return TrainingRequested.root(RequestedTraining(), subject="demo", source="urn:test")


async def poll(condition: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


@given(
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=60),
    count=st.integers(1, 12),
    share=st.floats(0.5, 1),
)
def test_the_limit_is_what_it_says(steps: list[tuple[float, int, int]], count: int, share: float) -> None:
    now, window = 0.0, 10.0
    limit = DeadLetterLimit(count, share, window, clock=lambda: now)
    seen: list[tuple[float, int, int]] = []
    for pause, handled, buried in steps:
        now += pause
        seen.append((now, handled, buried))
        within = [s for s in seen if s[0] >= now - window]
        bad = sum(s[2] for s in within)
        # What came before the first bad one is not remembered: it cannot make a stream of poison look good for long.
        first = next((i for i, s in enumerate(within) if s[2]), len(within))
        good = sum(s[1] for s in within[first:])
        reached = limit.note("s", handled, buried)
        if reached:
            assert bad >= count
            assert bad >= share * (bad + good)
        elif bad >= count:
            assert bad < share * (bad + sum(s[1] for s in within))


async def test_a_stream_of_nothing_but_poison_is_not_drained(platform: Platform) -> None:
    stream = stream_key(platform.namespace, TYPE)
    letters = DeadLetters(platform.redis, platform.namespace)
    handled: list[str] = []

    async def on_requested(event: TrainingRequested) -> None:
        handled.append(event.id)

    def service(instance: str) -> Service:
        made = Service("picky", platform.settings(Settings, delivery=LIMITS, instance=instance))
        made.bus.consume(on_requested)
        return made

    # Some good ones among them: not all is poison.
    for _ in range(3):
        for _ in range(2):
            await platform.redis.xadd(stream, {FIELD: b"{"})
        await platform.publish(requested())
    first = service("1")
    async with platform.running(first):

        async def read() -> bool:
            return len(handled) == 3 and await letters.count() == 6

        await poll(read)
        assert first.bus.halts.streams == frozenset()
    for _ in range(20):
        await platform.redis.xadd(stream, {FIELD: b"{"})
    last = requested()
    await platform.publish(last)
    second = service("1")
    async with platform.running(second):
        await poll(lambda: _reason(second, TYPE))
        assert await letters.count() == 6 + 4
        await poll(lambda: _told(platform))
        (told,) = await halted(platform.redis, platform.namespace, ["picky", "other"])
        assert (told["service"], told["stream"]) == ("picky", stream)
        assert second.bus.failed() is None
    # Neither a restart nor another replica goes on by itself.
    third, fourth = service("1"), service("2")
    await third.bus.connect()
    assert third.bus.halts.streams == {stream}
    await third.bus.redis.aclose()
    assert await resume(platform.redis, platform.namespace, "picky", stream)
    assert not await resume(platform.redis, platform.namespace, "picky", stream)
    async with platform.running(fourth):
        await poll(lambda: _reason(fourth, TYPE))
        assert 6 + 8 <= await letters.count() <= 6 + 10  # what was held by then is still given up
        assert len(handled) == 3

        async def done() -> bool:
            await resume(platform.redis, platform.namespace, "picky", stream)
            return last.id in handled and await letters.count() == 6 + 20

        await poll(done)
        await poll(lambda: _ready(fourth))


async def test_a_poisoned_pipeline_is_left_alone_and_the_others_go_on(platform: Platform) -> None:
    handled: list[str] = []

    async def on_batch(pipeline: str, batch: list[Delivery]) -> Completion:
        handled.extend(pipeline for d in batch if d.body != b"{")
        return Completion(
            outputs=[(d, ()) for d in batch if d.body != b"{"],
            dead=[(d, "undecodable", "not JSON") for d in batch if d.body == b"{"],
        )

    service = Service("picky", platform.settings(Settings, delivery=LIMITS))
    service.bus.lanes([PredictionRequested], on_batch, max_records=2)
    streams = {p: stream_key(platform.namespace, "prediction.requested.v1", p) for p in ("bad", "good")}
    for _ in range(40):
        await platform.redis.xadd(streams["bad"], {FIELD: b"{"})
    async with platform.running(service):
        for pipeline in streams:
            await service.bus.serve(pipeline)
        await poll(lambda: _has(service.bus.halts.streams, streams["bad"]))
        await platform.redis.xadd(streams["good"], {FIELD: b"{}"})
        await poll(lambda: _has(handled, "good"))
        assert await service._probe() is None  # the service works; one pipeline's producer does not
        assert service._halted() == [streams["bad"]]
        groups: Any = await platform.redis.xinfo_groups(streams["bad"])
        left: Any = await platform.redis.xrange(streams["bad"], min=f"({groups[0]['last-delivered-id'].decode()}")
        assert len(left) > 20
        letters = DeadLetters(platform.redis, platform.namespace)

        async def resumed_and_buried() -> bool:
            # Read again, the stream is soon halted again, so that to see it running would be luck.
            await resume(platform.redis, platform.namespace, "picky", streams["bad"])
            return await letters.count() >= 40 - len(left) + 4

        await poll(resumed_and_buried)


async def _told(platform: Platform) -> bool:
    return bool(await halted(platform.redis, platform.namespace, ["picky"]))


async def _is(count: Callable[[], Awaitable[int]], expected: int) -> bool:
    return await count() == expected


async def _has(found: Any, item: str) -> bool:
    return item in found


async def _ready(service: Service) -> bool:
    return await service._probe() is None


async def _reason(service: Service, words: str) -> bool:
    return words in str(await service._probe())
