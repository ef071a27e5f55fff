"""On a Redis Cluster: pipelines lie on several masters, and what a step leads to elsewhere arrives once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import EventDeadLettered, PredictionRequested, TrainingRequested
from tidemill_contracts.model import RequestedTraining
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_contracts.streams import stream_key
from tidemill_shared.bus import Bus
from tidemill_shared.dead_letters import DeadLetters
from tidemill_shared.delivery import Completion, Delivery, Mailbox, delivery_of
from tidemill_shared.raw import call
from tidemill_shared.settings import DeliverySettings
from tidemill_shared.testing.platform import Platform
from tidemill_shared.testing.servers import Servers

TYPE = PredictionRequested.type_name()


@pytest.fixture
async def platform(cluster: Servers, signing_keys: tuple[Path, Path], tmp_path: Path) -> AsyncIterator[Platform]:
    async with Platform.open(cluster, signing_keys, tmp_path) as opened:
        yield opened


def spread(platform: Platform) -> list[str]:
    """Names of pipelines, two on each master."""
    found: dict[int, list[str]] = {}
    for number in range(1000):
        name = f"p{number}"
        server = id(platform.bus.nodes.of(stream_key(platform.namespace, TYPE, name)))
        if len(found.setdefault(server, [])) < 2:
            found[server].append(name)
        if sum(map(len, found.values())) == 6:
            break
    assert len(found) == 3
    return [name for names in found.values() for name in names]


def asked(pipeline: str, id_: str) -> PredictionRequested:
    return PredictionRequested.root(RequestedPrediction(features={}), id=id_, subject=pipeline, source="urn:test")


async def answers_of(platform: Platform, pipeline: str, count: int) -> list[bytes]:
    key = stream_key(platform.namespace, "answers", pipeline)
    async with asyncio.timeout(60):
        while True:
            entries: Any = await platform.bus.nodes.of(key).xrange(key)
            if len(entries) >= count:
                return [fields[FIELD.encode()] for _, fields in entries]
            await asyncio.sleep(0.02)


async def lanes(platform: Platform, *pipelines: str) -> Bus:
    """A consumer whose answers are the requests' ids; what has no id is buried."""

    async def on_batch(pipeline: str, batch: list[Delivery]) -> Completion:
        out = stream_key(platform.namespace, "answers", pipeline)
        good = [d for d in batch if d.body != b"poison"]
        dead = [(d, "invalid", "no event") for d in batch if d.body == b"poison"]
        return Completion(outputs=[(d, [(out, d.parse().id.encode())]) for d in good], dead=dead)

    delivery = DeliverySettings(lease_seconds=1.0, block_seconds=0.2)
    bus = Bus("lanes", platform._redis, namespace=platform.namespace, delivery=delivery)
    bus.lanes([PredictionRequested], on_batch, max_records=8)
    await bus.connect()
    for pipeline in pipelines:
        await bus.serve(pipeline)
    await bus.start()
    return bus


async def test_pipelines_on_every_master_are_answered_and_letters_reach_the_control_plane(platform: Platform) -> None:
    names = spread(platform)
    bus = await lanes(platform, *names[:-1])
    try:
        await bus.serve(names[-1])  # declared while running
        await platform.publish(*[asked(name, f"{name}-{i}") for i in range(20) for name in names])
        for name in names:
            stream = stream_key(platform.namespace, TYPE, name)
            await platform.bus.nodes.of(stream).xadd(stream, {FIELD: b"poison"})
        for name in names:
            answers = await answers_of(platform, name, 20)
            assert sorted(answers) == sorted(f"{name}-{i}".encode() for i in range(20))
        for name in names:
            stream = stream_key(platform.namespace, TYPE, name)
            notice = await platform.wait_for(EventDeadLettered, lambda e, s=stream: e.data.stream == s, timeout=60)
            assert notice.subject == name
        letters = DeadLetters(platform.bus.nodes, platform.namespace)
        buried = [letter async for letter in letters.every()]
        assert sorted(b.letter.stream for b in buried) == sorted(stream_key(platform.namespace, TYPE, n) for n in names)
        assert await letters.replay(buried[0].id)
        assert await letters.count() == 6 - 1 or await letters.count() == 6  # it may be refused again already
        assert bus.failed() is None
    finally:
        await bus.stop()


async def test_what_a_step_leads_to_elsewhere_arrives_once_and_in_order(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = spread(platform)
    boxes = [Mailbox(platform.bus.nodes, platform.namespace, "g", consumer, 5.0) for consumer in ("a", "b")]
    away = True
    original = Mailbox._commit

    async def commit(*args: Any) -> None:
        if away:
            raise RedisConnectionError("the control plane's master is away")
        await original(*args)

    for box in boxes:
        monkeypatch.setattr(box._outbox, "_commit", lambda *args, box=box: commit(box, *args))
    name = (
        names[-1] if platform.bus.nodes.of(f"{{{platform.namespace}:{names[-1]}}}") is not platform.redis else names[0]
    )
    requests = stream_key(platform.namespace, TYPE, name)
    await boxes[0].open([requests])
    told = [
        TrainingRequested.root(RequestedTraining(reason=f"{i}"), id=f"t-{i}", subject=name, source="urn:test")
        for i in range(30)
    ]
    redis = platform.bus.nodes.of(requests)
    for i in range(3):
        await redis.xadd(requests, {FIELD: b"{}"})
        reply: Any = await redis.xreadgroup("g", "a", {requests: ">"})
        entries = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
        taken = [delivery_of(requests, entry, fields) for entry, fields in entries]
        outputs: list[tuple[Delivery, Any]] = [(taken[0], told[10 * i : 10 * i + 10])]
        assert await boxes[0].complete(Completion(outputs=outputs, guard=(f"{requests}-state", None))) == []
    assert await platform.events(TrainingRequested) == []
    away = False
    await asyncio.gather(*[box.send_on(requests) for _ in range(5) for box in boxes])
    assert [e.id for e in await platform.events(TrainingRequested)] == [e.id for e in told]
    assert (await redis.xpending(requests, "g"))["pending"] == 0
    assert await redis.xlen(boxes[0]._outbox.key(requests.partition(":prediction")[0])) == 0


async def test_a_slot_that_moves_to_another_master_is_followed(platform: Platform) -> None:
    name = spread(platform)[0]
    stream = stream_key(platform.namespace, TYPE, name)
    nodes = platform.bus.nodes
    source = nodes.of(stream)
    target = next(redis for redis in nodes.servers() if redis is not source)
    bus = await lanes(platform, name)
    try:
        await platform.publish(*[asked(name, f"before-{i}") for i in range(20)])
        await answers_of(platform, name, 20)
        await move(source, target, nodes.slot(stream), nodes.servers(), platform.servers.redis_password)
        await platform.publish(*[asked(name, f"after-{i}") for i in range(20)])
        assert nodes.of(stream) is target
        answers = await answers_of(platform, name, 40)
        assert len(set(answers)) == len(answers) == 40
    finally:
        await bus.stop()
        await platform.bus.nodes.look()
        await move(target, source, nodes.slot(stream), nodes.servers(), platform.servers.redis_password)
        await platform.bus.nodes.look()


async def test_a_server_that_was_taken_out_of_the_cluster_is_not_believed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = platform.bus.nodes
    before = nodes.servers()
    asked_first, original = before[0], call

    async def told(redis: Redis, *words: Any) -> Any:
        return [] if redis is asked_first else await original(redis, *words)

    monkeypatch.setattr("tidemill_shared.nodes.call", told)
    await nodes.look()
    assert nodes.servers() == before
    assert all(nodes.of(stream_key(platform.namespace, TYPE, name)) in before for name in spread(platform))


async def test_a_master_that_is_away_hides_the_abandoned_entries_of_no_other(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = platform.bus.nodes
    streams = [stream_key(platform.namespace, TYPE, name) for name in spread(platform)]
    box = Mailbox(nodes, platform.namespace, "g", "alive", lease_seconds=60.0)
    await box.open(streams)
    for stream in streams:
        redis = nodes.of(stream)
        entry = await redis.xadd(stream, {FIELD: b"{}"})
        await redis.xreadgroup("g", "dead", {stream: ">"})
        await redis.xclaim(stream, "g", "dead", 0, [entry], idle=61_000, retrycount=1)
    assert await box.overdue(streams) == streams
    original = nodes.of

    def of(key: str) -> Redis:
        if key in streams[:2]:
            raise RedisConnectionError("away")
        return original(key)

    monkeypatch.setattr(nodes, "of", of)
    assert await box.overdue(streams) == streams[2:]


async def move(source: Any, target: Any, slot: int, servers: list[Any], password: str) -> None:
    """As ``redis-cli --cluster reshard`` does it."""
    ids = [(await redis.execute_command("CLUSTER", "MYID")).decode() for redis in (source, target)]
    await target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    await source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    to = target.connection_pool.connection_kwargs
    while keys := await source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        await source.execute_command("MIGRATE", to["host"], to["port"], "", 0, 5000, "AUTH", password, "KEYS", *keys)
    for redis in (target, source, *servers):
        await redis.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
