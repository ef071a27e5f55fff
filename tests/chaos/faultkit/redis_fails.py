"""Scenarios: Redis is killed, hangs, refuses writes, or forgets everything."""

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable

from faultkit import load
from faultkit.evidence import Evidence, collect
from faultkit.scenario import Run

KEPT = ("registry/", "datasets/", "reports/", "inbox/", "packages/")
"""What a loss of Redis must not touch."""


async def killed(run: Run) -> None:
    """Redis dies under load and comes back with what it had written."""

    async def kill() -> None:
        for _ in range(run.size.restarts):
            await asyncio.sleep(run.chance.uniform(0.4, 1.2))
            if run.fleet.servers["redis"].send(signal.SIGKILL):
                run.fault()

    killing = asyncio.create_task(kill())
    await run.publish(1_000)
    await killing
    await run.answered()


async def refuses(run: Run) -> None:
    """Redis hangs for longer than a client waits, becomes a read-only replica, and then has no memory left."""
    publishing = asyncio.create_task(run.publish(run.size.requests / 45))
    await asyncio.sleep(1)
    await _hang(run, 7.0)
    async with run.fleet.breaker() as redis:
        run.fault()
        await redis.replicaof("127.0.0.1", "1")
        await asyncio.sleep(5)
        await redis.replicaof("NO", "ONE")
        await asyncio.sleep(5)
        run.fault()
        await redis.config_set("maxmemory", "1mb")
        await asyncio.sleep(5)
        await redis.config_set("maxmemory", "0")
    await publishing
    await run.answered()


async def _hang(run: Run, seconds: float) -> None:
    run.fault()
    run.fleet.servers["redis"].send(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    run.fleet.servers["redis"].send(signal.SIGCONT)
    await asyncio.sleep(5)


async def flushed(run: Run) -> None:
    """FLUSHALL in the middle of the work, then ``tidemill restore``."""

    async def flush() -> None:
        async with run.fleet.breaker() as redis:
            await redis.flushall()

    await _lose(run, flush)


async def lost(run: Run) -> None:
    """Redis and its volume are gone in the middle of the work, then ``tidemill restore``."""
    await _lose(run, run.fleet.lose_redis)


async def _lose(run: Run, lose: Callable[[], Awaitable[None]]) -> None:
    """What was accepted, prepared, validated or promoted is not lost; requests from before need not be answered."""
    await run.publish(2_000, 0.5)
    await load.answered(run.client, run.evidence, 120, since=run.begun)
    await load.arrivals(run.client, run.fleet.directory, 2, "before")
    owed = await run.client.store.list("inbox/")
    before = await collect(run.client, load.PIPELINE, Evidence(), run.begun)
    run.evidence.before = {k: d for k, d in before.digests.items() if k.startswith(KEPT)}
    run.evidence.answers += before.answers
    await lose()
    run.fault()
    run.evidence.redis_lost_at = begun = time.time()
    for process in run.fleet.services.values():
        process.send(signal.SIGKILL)
    await asyncio.sleep(0.5)
    await run.fleet.ready()
    said = json.loads((await run.fleet.command("restore", "--json")).strip().splitlines()[-1])
    run.evidence.figures["published_again"] = sum(said["events"].values())
    second = Evidence()
    await load.publish(run.client, load.requests(200, f"{run.seed}-after"), second)
    await load.answered(run.client, second, 120, since=begun, whole=False)
    run.evidence.figures["ready_after_seconds"] = round(time.time() - begun, 1)
    if not await load.settled(run.client, owed, 120):
        run.evidence.complaints.append("I8: accepted rows have no outcome two minutes after Redis was lost")
    await load.answered(run.client, second, 120, since=begun)
    run.evidence.sent |= second.sent
    if run.evidence.figures["ready_after_seconds"] > 120:
        run.evidence.complaints.append("I8: not ready within two minutes of the loss of Redis")
