"""The scenarios: what goes wrong while what is going on. Each ends with the evidence the checker reads."""

import asyncio
import contextlib
import json
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from faultkit import checker, load
from faultkit.evidence import Evidence, collect
from faultkit.fleet import LEASE_SECONDS, Client, Fleet
from tidemill_console.commands.data import publish_file
from tidemill_console.recovery.restoring import restore
from tidemill_contracts.drift import DetectedDrift, Statistic, Window
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import DriftDetected
from tidemill_contracts.streams import stream_key


@dataclass(frozen=True)
class Size:
    """How much of everything; the short set fits into the tests, the whole one is the published one."""

    requests: int
    kills: int
    zombies: int
    restarts: int
    away_seconds: float
    malformed: int
    storm: int


SHORT = Size(requests=3_000, kills=12, zombies=2, restarts=2, away_seconds=3.0, malformed=2_000, storm=200)
WHOLE = Size(requests=20_000, kills=120, zombies=20, restarts=20, away_seconds=60.0, malformed=100_000, storm=1_000)


@dataclass
class Run:
    """A scenario under way."""

    fleet: Fleet
    client: Client
    evidence: Evidence
    size: Size
    chance: random.Random
    seed: int

    def fault(self) -> None:
        """Remember that something was broken now."""
        self.evidence.faults_at.append(time.time())

    async def traffic(self, per_second: float, patience: float = 120.0) -> None:
        """Publish the requests and wait for their answers."""
        requests = load.requests(self.size.requests, self.seed)
        await load.publish(self.client, requests, self.evidence, per_second)
        await load.answered(self.client, self.evidence, patience)


Scenario = Callable[[Run], Awaitable[None]]


async def quiet(run: Run) -> None:
    """Nothing goes wrong."""
    await run.traffic(2_000)


async def killed(run: Run) -> None:
    """kill -9 of a service, any, every 20 to 50 ms, in bursts; between two bursts something may come up again."""

    async def kill() -> None:
        left = run.size.kills
        while left:
            for _ in range(min(left, 6)):
                process = run.chance.choice(list(run.fleet.services.values()))
                if process.send(signal.SIGKILL):
                    run.fault()
                    left -= 1
                await asyncio.sleep(run.chance.uniform(0.02, 0.05))
            await asyncio.sleep(2.0)

    killing = asyncio.create_task(kill())
    await load.publish(run.client, load.requests(run.size.requests, run.seed), run.evidence, 1_000)
    await killing
    await load.answered(run.client, run.evidence, 120)


async def zombies(run: Run) -> None:
    """A serving replica is stopped for longer than its lease in the middle of its work, and goes on afterwards."""

    async def stop() -> None:
        for _ in range(run.size.zombies):
            process = run.fleet.services[f"serving-{run.chance.choice((1, 2))}"]
            if process.send(signal.SIGSTOP):
                run.fault()
                await asyncio.sleep(LEASE_SECONDS * 1.6)
                process.send(signal.SIGCONT)
            await asyncio.sleep(0.5)

    stopping = asyncio.create_task(stop())
    await load.publish(run.client, load.requests(run.size.requests, run.seed), run.evidence, 400)
    await stopping
    await load.answered(run.client, run.evidence, 120)


async def replies_dropped(run: Run) -> None:
    """One of twenty replies of Redis is lost after it has done what it was asked."""
    run.fleet.proxies["redis"].faults.drop_reply = 0.05
    requests = load.requests(run.size.requests, run.seed)
    await load.publish(run.client, requests, run.evidence, 1_000)
    await load.answered(run.client, run.evidence, 240)
    run.fleet.proxies["redis"].faults.drop_reply = 0.0
    await load.answered(run.client, run.evidence, 60)


async def redis_killed(run: Run) -> None:
    """Redis dies under load and comes back with what it had written."""

    async def kill() -> None:
        for _ in range(run.size.restarts):
            await asyncio.sleep(run.chance.uniform(0.4, 1.2))
            if run.fleet.servers["redis"].send(signal.SIGKILL):
                run.fault()

    killing = asyncio.create_task(kill())
    await load.publish(run.client, load.requests(run.size.requests, run.seed), run.evidence, 1_000)
    await killing
    await load.answered(run.client, run.evidence, 120)


async def store_away(run: Run) -> None:
    """The object store is gone while rows arrive and predictions are asked for; serving goes on answering."""
    arriving = asyncio.create_task(_arrivals(run, 3))
    await asyncio.sleep(0.5)
    run.fault()
    await run.fleet.servers["store"].stop(signal.SIGKILL)
    ends = time.monotonic() + run.size.away_seconds
    half = load.requests(run.size.requests, run.seed)
    await load.publish(run.client, half, run.evidence, len(half) / run.size.away_seconds)
    if not await load.answered_only(run.client, run.evidence, 20):
        run.evidence.dead_reasons.add("serving did not answer while the store was away")
    await asyncio.sleep(max(0.0, ends - time.monotonic()))
    await run.fleet.servers["store"].start()
    await arriving
    await load.answered(run.client, run.evidence, 120)


async def malformed(run: Run) -> None:
    """Malformed events of every kind among good ones, on the data plane and on the control plane."""
    kinds: tuple[Callable[[int], bytes], ...] = (
        lambda n: b"\xff\xfe not text %d" % n,
        lambda n: b'{"specversion":"1.0","id":"cut-%d","type":"prediction.requ' % n,
        lambda n: json.dumps({"id": f"no-envelope-{n}"}).encode(),
        lambda n: b'{"a":' * 900 + b"%d" % n + b"}" * 900,
        lambda n: b'{"pad":"' + b"x" * 70_000 + b'","n":%d}' % n,
        lambda n: json.dumps(
            {"specversion": "1.0", "id": f"next-{n}", "type": "prediction.requested.v2", "source": "urn:x",
             "subject": load.PIPELINE, "time": "2026-01-01T00:00:00Z", "data": {"features": {}}}
        ).encode(),
        lambda n: json.dumps(
            {"specversion": "1.0", "id": f"foreign-{n}", "type": "prediction.requested.v1", "source": "urn:x",
             "subject": "another-pipeline", "time": "2026-01-01T00:00:00Z", "data": {"features": {}}}
        ).encode(),
    )  # fmt: skip
    data = stream_key(run.client.namespace, "prediction.requested.v1", load.PIPELINE)
    control = stream_key(run.client.namespace, "training.requested.v1")

    async def poison() -> None:
        for start in range(0, run.size.malformed, 200):
            pipeline = run.client.bus.redis.pipeline(transaction=False)
            for number in range(start, min(start + 200, run.size.malformed)):
                # Large ones are few: they would fill the memory of Redis and not test anything else.
                kind = kinds[number % len(kinds)] if number % 50 == 4 else kinds[(number % len(kinds)) % 4]
                body = kind(number)
                run.evidence.poison[body] += 1
                pipeline.xadd(control if number % 40 == 0 else data, {FIELD: body})
            await pipeline.execute()
            await asyncio.sleep(0)

    poisoning = asyncio.create_task(poison())
    await load.publish(run.client, load.requests(run.size.requests, run.seed), run.evidence, 1_000)
    await poisoning
    await load.answered(run.client, run.evidence, 240)


async def repeated(run: Run) -> None:
    """Each request comes one to five times, in any order."""
    requests = [r for r in load.requests(run.size.requests, run.seed) for _ in range(run.chance.randint(1, 5))]
    run.chance.shuffle(requests)
    await load.publish(run.client, requests, run.evidence)
    await load.answered(run.client, run.evidence, 120)


async def redis_lost(run: Run) -> None:
    """Redis loses everything in the middle of the work; what was accepted, prepared or promoted is not lost."""
    await _arrivals(run, 2)
    await run.traffic(2_000)
    before = await collect(run.client, load.PIPELINE, Evidence())
    run.evidence.before = {
        k: d
        for k, d in before.digests.items()
        if k.startswith(("registry/", "datasets/", "reports/", "inbox/", "packages/"))
    }
    run.evidence.answers += before.answers
    await run.fleet.lose_redis()
    run.fault()
    for process in run.fleet.services.values():
        process.send(signal.SIGKILL)
    await asyncio.sleep(0.5)
    await run.fleet.ready()
    await restore(run.client, None, lambda _: None)
    second = load.requests(200, run.seed + 1)
    await load.publish(run.client, second, run.evidence)
    await load.answered(run.client, Evidence(sent={r.id for r in second}), 60)


async def storm(run: Run) -> None:
    """A thousand drift events in ten seconds: one training runs, at most one waits."""
    champion = next(
        json.loads(data)["version"]
        for key, data in sorted((await collect(run.client, load.PIPELINE, Evidence())).documents.items(), reverse=True)
        if "/promotions/" in key
    )
    moment = datetime(1900, 1, 1, tzinfo=UTC)
    window = Window(rows=100, start=moment, end=moment)
    found = Statistic(
        name="error", test="adwin", statistic=1.0, threshold=0.5, reference_rows=100, current_rows=100, verdict="drift"
    )
    drift = DetectedDrift(
        kind="concept", model_version=champion, noticed_at=moment, noticed_row=1, window=window, evidence=(found,)
    )
    for number in range(0, run.size.storm, 100):
        count = min(100, run.size.storm - number)
        alarms = [DriftDetected.root(drift, subject=load.PIPELINE, source="urn:tidemill:chaos") for _ in range(count)]
        await load.publish(run.client, alarms, run.evidence)
        await asyncio.sleep(1.0)
    await run.traffic(1_000)


async def _arrivals(run: Run, count: int) -> None:
    """Publish new files of rows, each as a careful person would: again until it is accepted."""
    rows = (run.fleet.directory / "rows.csv").read_text().splitlines()
    for number in range(count):
        file = run.fleet.directory / f"more-{number}.csv"
        changed = [line.replace("01,", f"0{number + 2},", 1) for line in rows[1:400]]  # other players
        file.write_text("\n".join([rows[0], *changed]) + "\n")
        event_id = str(uuid4())
        while True:
            try:
                await publish_file(run.client, load.PIPELINE, file, ".csv", event_id)
                break
            except Exception:  # the store or Redis is away: with the same id until it works
                await asyncio.sleep(0.5)


SCENARIOS: dict[str, Scenario] = {
    "quiet": quiet,
    "killed": killed,
    "zombies": zombies,
    "replies dropped": replies_dropped,
    "redis killed": redis_killed,
    "redis lost": redis_lost,
    "store away": store_away,
    "malformed": malformed,
    "repeated": repeated,
    "drift storm": storm,
}


async def play(names: Sequence[str], folder: Path, size: Size, seed: int) -> AsyncIterator[checker.Row]:
    """Run scenarios one after the other on one installation; a row for each."""
    proxied = "replies dropped" in names
    async with Fleet.running(folder, replicas={"serving": 2}, proxied=proxied) as fleet, fleet.client() as client:
        await load.first_model(client, folder)
        for number, name in enumerate(names):
            evidence = Evidence()
            run = Run(fleet, client, evidence, size, random.Random(seed + number), seed + number)
            begun = time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(SCENARIOS[name](run), 600)
            seconds = time.monotonic() - begun
            await collect(client, load.PIPELINE, evidence)
            evidence.logs = fleet.logs()
            secrets = fleet.credentials.redis_password(), fleet.credentials.store_secret_key
            evidence.canaries = tuple(file.read_text().strip() for file in secrets)
            yield checker.check(name, run.seed, seconds, evidence)
