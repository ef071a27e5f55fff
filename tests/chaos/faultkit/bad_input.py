"""Scenarios: malformed events, repeated ones, storms."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

from faultkit import load, waiting
from faultkit.scenario import Run
from tidemill_contracts.drift import DetectedDrift, Statistic, Window
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import DriftDetected, ModelPromoted
from tidemill_contracts.registry import parse_as
from tidemill_contracts.streams import stream_key

_QUICK_SECONDS = 0.005
"""A latency below this is the clock's own noise."""


def _envelope(number: int, kind: str, subject: str) -> bytes:
    return json.dumps(
        {"specversion": "1.0", "id": f"odd-{number}", "type": kind, "source": "urn:x", "subject": subject,
         "time": "2026-01-01T00:00:00Z", "data": {"features": {}}}
    ).encode()  # fmt: skip


KINDS: tuple[Callable[[int], bytes], ...] = (
    lambda n: b"\xff\xfe not text %d" % n,
    lambda n: b'{"specversion":"1.0","id":"cut-%d","type":"prediction.requ' % n,
    lambda n: json.dumps({"id": f"no-envelope-{n}"}).encode(),
    lambda n: b'{"a":' * 900 + b"%d" % n + b"}" * 900,
    lambda n: _envelope(n, "prediction.requested.v2", load.PIPELINE),
    lambda n: _envelope(n, "nobody.knows.v1", load.PIPELINE),
    lambda n: _envelope(n, "prediction.requested.v1", "another-pipeline"),
    lambda n: b'{"pad":"' + b"x" * 70_000 + b'","n":%d}' % n,
)
"""Not text, cut off, no envelope, deep, of the next version, of an unknown type, of another pipeline, too large."""


async def malformed(run: Run) -> None:
    """Malformed events of every kind, on both planes, among a tenth as many good ones: their latency is not twice
    that of those that came alone before, and no service is restarted."""
    share = min(1.0, run.size.malformed / 10 / run.size.requests)
    seconds = max(2.0, run.size.malformed / 1_000)
    per_second = run.size.requests * share / seconds
    await run.publish(per_second, share / 4)
    await run.answered()
    alone = await load.latency(run.client, run.evidence.sent)
    good = set(run.evidence.sent)
    lives = {name: len(p.deaths) for name, p in run.fleet.services.items()}
    poisoning = asyncio.create_task(_poison(run, run.size.malformed / seconds))
    await run.publish(per_second, share)
    await poisoning
    await run.answered(240)
    among = await load.latency(run.client, run.evidence.sent - good)
    run.evidence.figures |= {"p95_ms_alone": round(alone * 1e3, 1), "p95_ms_among_malformed": round(among * 1e3, 1)}
    if run.size.judges_times and among > 2 * max(alone, _QUICK_SECONDS):
        run.evidence.complaints.append(f"I10: the good ones' p95 went from {alone * 1e3:.0f} to {among * 1e3:.0f} ms")
    for name, process in run.fleet.services.items():
        if len(process.deaths) != lives[name]:
            run.evidence.complaints.append(f"I10: {name} was restarted")


async def _poison(run: Run, per_second: float) -> None:
    data = stream_key(run.client.namespace, "prediction.requested.v1", load.PIPELINE)
    control = stream_key(run.client.namespace, "training.requested.v1")
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for start in range(0, run.size.malformed, 50):
        pipeline = run.client.bus.redis.pipeline(transaction=False)
        for number in range(start, min(start + 50, run.size.malformed)):
            # Large ones are few: they would fill the memory of Redis and not test anything else.
            body = KINDS[-1 if number % 400 == 7 else number % (len(KINDS) - 1)](number)
            run.evidence.poison[body] += 1
            pipeline.xadd(control if number % 400 == 0 else data, {FIELD: body})
        await pipeline.execute()
        await asyncio.sleep(max(0.0, begun + start / per_second - loop.time()))


async def repeated(run: Run) -> None:
    """Each request comes one to five times, in any order."""
    once = load.requests(run.size.requests, str(run.seed))
    requests = [r for r in once for _ in range(run.chance.randint(1, 5))]
    run.chance.shuffle(requests)
    await load.publish(run.client, requests, run.evidence)
    await run.answered()


async def storm(run: Run) -> None:
    """A thousand drift events in ten seconds: one training runs, at most one waits."""
    promoted = await run.client.bus.redis.xrevrange(stream_key(run.client.namespace, ModelPromoted.type_name()))
    events = (parse_as(ModelPromoted, fields[FIELD.encode()]) for _, fields in promoted)
    champion = next(e.data.version for e in events if e.pipeline == load.PIPELINE)
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
        await load.publish(run.client, alarms, run.evidence, 100)
    await run.publish(2_000, 0.1)
    await run.answered()
    found = await _served(run)
    run.evidence.figures |= {"trainings_granted": len(found.granted), "most_queued": found.most}
    if found.most > 1:
        run.evidence.complaints.append(f"I9: {found.most} triggers of {load.PIPELINE} waited at once")


async def _served(run: Run, patience: float = 60.0) -> waiting.Waiting:
    """What became of the alarms, once what waits waits for more than its turn, or patience is over."""
    deadline = time.monotonic() + patience
    while True:
        found = await waiting.read(run.client, load.PIPELINE, run.begun)
        if not found.soon or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.1)
