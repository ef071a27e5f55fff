"""What one pipeline does costs the others nothing; what arrives while a batch is handled is the next batch."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import PredictionRequested
from tidemill_contracts.streams import stream_key
from tidemill_shared import raw, reading
from tidemill_shared.bus import Bus
from tidemill_shared.delivery import Completion, Delivery
from tidemill_shared.errors import Retryable
from tidemill_shared.lane import OnBatch
from tidemill_shared.settings import DeliverySettings
from tidemill_shared.testing.platform import Platform

TYPE = PredictionRequested.type_name()
LEASE_SECONDS = 1.0


async def ask(platform: Platform, pipeline: str, *names: str) -> None:
    pipe = platform.redis.pipeline(transaction=False)
    for name in names:
        pipe.xadd(stream_key(platform.namespace, TYPE, pipeline), {FIELD: name})
    await pipe.execute()


async def answers(platform: Platform, pipeline: str) -> list[str]:
    entries = await platform.redis.xrange(stream_key(platform.namespace, "answers", pipeline))
    return [fields[FIELD.encode()].decode() for _, fields in entries]


def answered(platform: Platform, pipeline: str, batch: list[Delivery]) -> Completion:
    out = stream_key(platform.namespace, "answers", pipeline)
    return Completion(outputs=[(d, [(out, d.body)]) for d in batch])


def answers_all(platform: Platform) -> OnBatch:
    async def on_batch(pipeline: str, batch: list[Delivery]) -> Completion:
        return answered(platform, pipeline, batch)

    return on_batch


async def until(condition, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def lanes(
    platform: Platform,
    on_batch: OnBatch,
    *pipelines: str,
    max_records: int = 8,
    ahead: bool = False,
    lease_seconds: float = LEASE_SECONDS,
) -> AsyncIterator[Bus]:
    delivery = DeliverySettings(lease_seconds=lease_seconds, block_seconds=0.2, max_deliveries=100)
    bus = Bus("lanes", platform._redis, namespace=platform.namespace, delivery=delivery)
    bus.lanes([PredictionRequested], on_batch, max_records=max_records, ahead=ahead)
    await bus.connect()
    for pipeline in pipelines:
        await bus.serve(pipeline)
    await bus.start()
    try:
        yield bus
        assert bus.failed() is None
    finally:
        await bus.stop()


async def test_a_pipeline_whose_model_hangs_holds_up_no_other(platform: Platform) -> None:
    release, taken = asyncio.Event(), 0

    async def on_batch(pipeline: str, batch: list[Delivery]) -> Completion:
        nonlocal taken
        if pipeline == "slow":
            taken += len(batch)
            await release.wait()
        return answered(platform, pipeline, batch)

    names = [f"r{i}" for i in range(100)]
    async with lanes(platform, on_batch, "slow", "quick"):
        await ask(platform, "slow", *names)
        await until(lambda: _true(taken))
        for name in names:  # one by one, behind a lane that is full
            await ask(platform, "quick", name)
        await until(lambda: _all(platform, "quick", 100))
        assert await answers(platform, "slow") == []
        assert taken <= 8
        pending = await platform.redis.xpending(stream_key(platform.namespace, TYPE, "slow"), "lanes")
        assert pending["pending"] <= 3 * 8  # the rest stays in its stream, where another replica may take it
        release.set()
        await until(lambda: _all(platform, "slow", 100))
    assert await answers(platform, "slow") == await answers(platform, "quick") == names


async def test_a_pipeline_that_always_fails_is_left_alone_for_a_while(platform: Platform) -> None:
    calls, broken = 0, True

    async def on_batch(pipeline: str, batch: list[Delivery]) -> Completion:
        nonlocal calls
        if pipeline == "bad":
            calls += 1
            if broken:
                raise Retryable("its model is away")
        return answered(platform, pipeline, batch)

    async with lanes(platform, on_batch, "bad", "good", max_records=1):
        await ask(platform, "bad", *[f"b{i}" for i in range(50)])
        for i in range(50):
            await ask(platform, "good", f"g{i}")
        await until(lambda: _all(platform, "good", 50))
        await until(lambda: _true(calls >= 3))
        assert calls < 10
        pending = await platform.redis.xpending(stream_key(platform.namespace, TYPE, "bad"), "lanes")
        assert pending["pending"] < 15  # not all 50 were taken only to fail
        broken = False
        await until(lambda: _all(platform, "bad", 50), 30)
    assert sorted(await answers(platform, "bad")) == sorted(f"b{i}" for i in range(50))


async def test_what_arrives_meanwhile_is_the_next_batch_and_answers_keep_the_order(platform: Platform) -> None:
    for ahead in (False, True):
        pipeline = f"ahead-{ahead}".lower()
        release, batches = asyncio.Event(), list[int]()

        async def on_batch(
            name: str, batch: list[Delivery], release: asyncio.Event = release, batches: list[int] = batches
        ) -> Completion:
            batches.append(len(batch))
            await release.wait()
            return answered(platform, name, batch)

        async with lanes(platform, on_batch, pipeline, max_records=64, ahead=ahead) as bus:
            await ask(platform, pipeline, "r0")
            await until(lambda batches=batches: _true(batches))
            for i in range(1, 40):
                await ask(platform, pipeline, f"r{i}")
            stream = stream_key(platform.namespace, TYPE, pipeline)
            # Read before the first batch is done, and kept for one batch rather than for many.
            await until(lambda stream=stream: _pending(platform, stream, 40))
            if not ahead:
                assert batches == [1]
            release.set()
            await until(lambda pipeline=pipeline: _all(platform, pipeline, 40))
            assert bus.failed() is None
        assert len(batches) <= (4 if ahead else 2)
        assert sum(batches) == 40
        assert await answers(platform, pipeline) == [f"r{i}" for i in range(40)]


async def test_what_waits_longer_than_its_lease_is_not_handled_twice(platform: Platform) -> None:
    release, seen = asyncio.Event(), list[str]()

    async def on_batch(pipeline: str, batch: list[Delivery]) -> Completion:
        seen.extend(d.body.decode() for d in batch)
        await release.wait()
        return answered(platform, pipeline, batch)

    names = [f"r{i}" for i in range(8)]
    stream = stream_key(platform.namespace, TYPE, "p")
    async with lanes(platform, on_batch, "p"), lanes_of_another(platform) as other:
        await ask(platform, "p", names[0])
        await until(lambda: _true(seen))
        await ask(platform, "p", *names[1:])
        await until(lambda: _pending(platform, stream, 8))
        started = asyncio.get_running_loop().time()
        await until(lambda: _true(asyncio.get_running_loop().time() - started > 3 * LEASE_SECONDS))
        release.set()
        await until(lambda: _all(platform, "p", 8))
        assert other == []
    assert seen == names


@contextlib.asynccontextmanager
async def lanes_of_another(platform: Platform) -> AsyncIterator[list[str]]:
    """A replica that only takes over what looks abandoned."""
    taken: list[str] = []
    bus = Bus("lanes", platform._redis, namespace=platform.namespace, instance="2")
    bus.mailbox.lease_seconds = LEASE_SECONDS
    stream = stream_key(platform.namespace, TYPE, "p")

    async def watch() -> None:
        while True:
            taken.extend(d.body.decode() for d in await bus.mailbox.reclaim(stream, 100))
            await asyncio.sleep(0.05)

    await bus.mailbox.open([stream])
    task = asyncio.create_task(watch())
    try:
        yield taken
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await bus.redis.aclose()


async def _all(platform: Platform, pipeline: str, count: int) -> bool:
    return len(await answers(platform, pipeline)) >= count


async def _pending(platform: Platform, stream: str, count: int) -> bool:
    return (await platform.redis.xpending(stream, "lanes"))["pending"] == count


async def _true(value: object) -> bool:
    return bool(value)


async def test_more_pipelines_at_once_than_there_are_connections(platform: Platform) -> None:
    names = [f"crowd-{i}" for i in range(120)]
    handled = list[str]()
    together = asyncio.Event()

    async def on_batch(name: str, batch: list[Delivery]) -> Completion:
        handled.append(name)
        await together.wait()
        return answered(platform, name, batch)

    # A lease that a busy machine keeps as well: what is left pending shows as taken up again when it has run out.
    async with lanes(platform, on_batch, *names, ahead=True, lease_seconds=8.0):
        for name in names:
            await ask(platform, name, "r0")
        await until(lambda: _true(len(set(handled)) == len(names)))
        together.set()
        for name in names:
            await until(lambda name=name: _all(platform, name, 1))
    assert sorted(handled) == sorted(names)  # none was left pending and taken up again


async def test_a_busy_pipeline_among_idle_ones_is_read_in_whole_batches(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[int, set[str]]] = []

    async def call(redis: Redis, *words: Any) -> Any:
        streams = words[words.index("STREAMS") + 1 :]
        reads.append((words[words.index("COUNT") + 1], {*streams[: len(streams) // 2]}))
        return await raw.call(redis, *words)

    monkeypatch.setattr(reading, "call", call)
    monkeypatch.setattr(reading, "_READ_LIMIT", 8)
    names = [f"r{i}" for i in range(64)]
    idle = ("idle-1", "idle-2", "idle-3")
    await ask(platform, "idle-1", "r0")
    await ask(platform, "busy", *names)
    async with lanes(platform, answers_all(platform), "busy", *idle, max_records=8):
        await until(lambda: _all(platform, "busy", len(names)))
        await ask(platform, "idle-3", "r0")
        await until(lambda: _all(platform, "idle-3", 1))
    assert await answers(platform, "busy") == names
    assert await answers(platform, "idle-1") == await answers(platform, "idle-3") == ["r0"]
    stream = stream_key(platform.namespace, PredictionRequested.type_name(), "busy")
    together = [count for count, streams in reads if stream in streams and len(streams) > 1]
    alone = [count for count, streams in reads if streams == {stream}]
    assert set(together) == {2}
    assert alone == [8] * 8  # 62 entries: all but the share it had before it was known to be busy
    others = {stream_key(platform.namespace, TYPE, name) for name in idle}
    assert all(reads[i - 1] == (2, others) for i, (_, streams) in enumerate(reads) if streams == {stream})


async def test_what_is_read_apart_is_kept_when_the_other_read_fails(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_key(platform.namespace, TYPE, "busy")
    read_apart, failures = False, 0

    async def call(redis: Redis, *words: Any) -> Any:
        nonlocal read_apart, failures
        if stream not in words and failures == 0:
            failures += 1
            raise RedisConnectionError("cut off")
        read_apart = read_apart or words[words.index("STREAMS") + 1 :] == (stream, ">")
        return await raw.call(redis, *words)

    monkeypatch.setattr(reading, "call", call)
    monkeypatch.setattr(reading, "_READ_LIMIT", 8)
    names = [f"r{i}" for i in range(64)]
    await ask(platform, "busy", *names)
    async with lanes(
        platform, answers_all(platform), "busy", "idle-1", "idle-2", "idle-3", max_records=8, lease_seconds=8.0
    ):
        await until(lambda: _all(platform, "busy", len(names)))
        await ask(platform, "idle-2", "r0")
        await until(lambda: _all(platform, "idle-2", 1))
    assert await answers(platform, "busy") == names
    assert read_apart and failures == 1


async def test_small_entries_between_large_ones_do_not_make_a_read_larger(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_key(platform.namespace, TYPE, "large")
    counts: list[int] = []

    async def call(redis: Redis, *words: Any) -> Any:
        if stream in words:
            counts.append(words[words.index("COUNT") + 1])
        return await raw.call(redis, *words)

    async def on_batch(pipeline: str, batch: list[Delivery]) -> Completion:
        if pipeline == "large":
            await ask(platform, "small", "s")
            await asyncio.sleep(0.02)  # it is read meanwhile
        return answered(platform, pipeline, batch)

    monkeypatch.setattr(reading, "call", call)
    monkeypatch.setattr(reading, "_READ_BYTES", 1_000)
    names = [f"{i:0300}" for i in range(64)]
    await ask(platform, "large", *names)
    async with lanes(platform, on_batch, "large", "small", max_records=8, lease_seconds=8.0):
        await until(lambda: _all(platform, "large", len(names)))
    assert await answers(platform, "large") == names
    assert max(counts[: counts.index(3) + 10]) == 3


async def test_large_entries_are_read_a_few_at_a_time(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    async def call(redis: Redis, *words: Any) -> Any:
        counts.append(words[words.index("COUNT") + 1])
        return await raw.call(redis, *words)

    async def all_answered() -> bool:
        return len(await answers(platform, "large")) == len(names)

    monkeypatch.setattr(reading, "call", call)
    monkeypatch.setattr(reading, "_READ_BYTES", 1_000)
    names = [f"{i:0300}" for i in range(64)]
    async with lanes(platform, answers_all(platform), "large", max_records=8):
        await ask(platform, "large", *names)
        await until(all_answered)
    assert await answers(platform, "large") == names
    assert counts[0] == 1  # as large as an entry may be, until one has been seen
    assert set(counts[counts.index(3) :]) == {3}
