"""Many pipelines in one serving process: memory an idle one, time to load one, events per second over all beside one,
and how long a quiet one waits beside one that is flooded.

    python tests/benchmarks/serving_pipelines.py [--pipelines 200] [--events 20000]

Every pipeline has a package of its own (the model of ``serving_stream.py``, signed, judged and promoted). Throughput is
from streams filled while the process is stopped. The quiet pipeline gets 200 requests/s, first while the others are
idle, then while another one's stream holds more than can be answered meanwhile; its latency counts from when a request
was due. The last line is one JSON object.
"""

import argparse
import asyncio
import itertools
import json
import random
import signal
import statistics
import time
import uuid
from pathlib import Path
from typing import Any

import serving_process
from serving_stream import PIPELINE, Bench, fit, request_bodies
from serving_swap import Load

from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import PredictionCompleted, PredictionRequested
from tidemill_contracts.streams import stream_key
from tidemill_shared.testing.platform import Platform

_ROOM = 20
"""Models there is room for in the run that loads on demand."""
_QUIET_RATE = 200


def resident_megabytes(process: asyncio.subprocess.Process) -> float:
    """Of memory, now."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


async def add(opened: Platform, bench: Bench, names: list[str]) -> None:
    """Promote and declare them."""
    for name in names:
        await serving_process.promote(opened, bench, name, 1)
        await opened.declare(serving_process.spec(name))


async def answered(opened: Platform, names: list[str]) -> int:
    """Answers in all of their streams."""
    pipe = opened.redis.pipeline(transaction=False)
    for name in names:
        pipe.xlen(stream_key(opened.namespace, PredictionCompleted.type_name(), name))
    return sum(await pipe.execute())


async def ask(opened: Platform, bodies: list[bytes], names: list[str]) -> None:
    """Each request to one of them at random."""
    choice = random.Random(0)  # noqa: S311 - a load
    for at in range(0, len(bodies), 1_000):
        pipe = opened.redis.pipeline(transaction=False)
        for body in bodies[at : at + 1_000]:
            name = choice.choice(names)
            addressed = body.replace(f'"subject":"{PIPELINE}"'.encode(), f'"subject":"{name}"'.encode(), 1)
            pipe.xadd(stream_key(opened.namespace, PredictionRequested.type_name(), name), {FIELD: addressed})
        await pipe.execute()


async def throughput(
    opened: Platform, process: asyncio.subprocess.Process, bodies: list[bytes], names: list[str]
) -> float:
    """Events per second from the filled streams to the last answer."""
    before = await answered(opened, names)
    process.send_signal(signal.SIGSTOP)
    await ask(opened, bodies, names)
    process.send_signal(signal.SIGCONT)
    started = time.perf_counter()
    while await answered(opened, names) - before < len(bodies):
        if time.perf_counter() - started > 60:
            raise RuntimeError("not all requests were answered within a minute")
        await asyncio.sleep(0.02)
    return len(bodies) / (time.perf_counter() - started)


async def flood(opened: Platform, process: asyncio.subprocess.Process, pipeline: str, count: int) -> None:
    """So many requests at once to one pipeline."""
    bodies = request_bodies(min(count, 2_000), pipeline)
    marks = [body.split(b'"id":"', 1)[1].split(b'"', 1)[0] for body in bodies]
    repeated = itertools.islice(itertools.cycle(zip(bodies, marks, strict=True)), count)
    asked = [body.replace(mark, str(uuid.uuid4()).encode(), 1) for body, mark in repeated]
    process.send_signal(signal.SIGSTOP)
    await ask(opened, asked, [pipeline])
    process.send_signal(signal.SIGCONT)


async def until_answered(opened: Platform, pipeline: str, count: int) -> float:
    """The moment at which a pipeline has so many answers."""
    while await answered(opened, [pipeline]) < count:
        await asyncio.sleep(0.02)
    return time.perf_counter()


async def quiet(load: Load, seconds: float, ended: "asyncio.Task[float] | None" = None) -> list[float]:
    """Milliseconds, p50 and p99, of a pipeline that is asked now and then; of what was due before another one's flood
    ended, where there is one. Raises RuntimeError when that was next to nothing."""
    reading = asyncio.create_task(load.read())
    await load.send()
    await asyncio.wait_for(reading, 60)
    until = min(seconds, await ended - load.start) if ended else seconds
    if until * _QUIET_RATE < 10:
        raise RuntimeError(f"the flood was answered within {max(until, 0):.2f} s")
    return [load.percentile(share, 0.0, until) for share in (0.5, 0.99)]


async def neighbours(
    opened: Platform, process: asyncio.subprocess.Process, names: list[str], count: int, seconds: float
) -> dict[str, Any]:
    """The same alone, and beside a pipeline that is asked so many requests at once."""
    busy, idle = names[:2]
    alone = await quiet(Load(opened, _QUIET_RATE, seconds, idle), seconds)
    load, before = Load(opened, _QUIET_RATE, seconds, idle), await answered(opened, [busy])
    await flood(opened, process, busy, count)
    beside = await quiet(load, seconds, asyncio.create_task(until_answered(opened, busy, before + count)))
    late = {"alone": alone, "beside_a_flood": beside}
    found = {who: dict(zip(("p50", "p99"), values, strict=True)) for who, values in late.items()}
    return {"quiet_ms": found, "ratio_quiet_p99": round(beside[1] / alone[1], 2)}


async def until_served(opened: Platform, names: list[str]) -> float:
    """Seconds until each of them has answered a request."""
    started = time.perf_counter()
    before = await answered(opened, names)
    bodies = request_bodies(len(names))
    for name, body in zip(names, bodies, strict=True):
        await ask(opened, [body], [name])
    while await answered(opened, names) - before < len(names):
        if time.perf_counter() - started > 120:
            raise RuntimeError("not every pipeline answered within two minutes")
        await asyncio.sleep(0.005)
    return time.perf_counter() - started


async def measure(pipelines: int, events: int, quiet_seconds: float = 2.5) -> dict[str, Any]:
    """One run."""
    bench, names = fit(), [f"p-{i}" for i in range(pipelines)]
    async with serving_process.platform() as opened:
        await add(opened, bench, names[:1])
        async with serving_process.serving(opened) as process:
            await until_served(opened, names[:1])
            one = await throughput(opened, process, request_bodies(events), names[:1])
            empty = resident_megabytes(process)
            await add(opened, bench, names[1:])  # declared while running
            await until_served(opened, names)
            full = resident_megabytes(process)
            many = await throughput(opened, process, request_bodies(events), names)
            one_of_many = await throughput(opened, process, request_bodies(events), names[:1])
            # Asked in less time than the stopped process waits for a reply: it would begin with an error and a pause.
            count = min(100_000, int(one * (quiet_seconds + 0.5)))
            late = await neighbours(opened, process, names, count, quiet_seconds)
        size = serving_process.model_weight(bench) * _ROOM
        async with serving_process.serving(opened, TIDEMILL_SERVING__MODEL_BYTES=str(size)) as process:
            for name in names:
                await until_served(opened, [name])
            wakes = [await until_served(opened, [name]) for name in names[:30]]
            bounded = resident_megabytes(process)
    return {
        "pipelines": pipelines,
        "megabytes_an_idle_pipeline": round((full - empty) / (pipelines - 1), 2),
        "megabytes_with_room_for_20": round(bounded, 1),
        "megabytes_with_all": round(full, 1),
        "load_on_demand_ms": round(statistics.median(wakes) * 1e3, 1),
        "events_per_second": {"one_alone": round(one), "one_of_all": round(one_of_many), "all_at_random": round(many)},
        "ratio_all_to_one": round(many / one, 3),
        **late,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipelines", type=int, default=200)
    parser.add_argument("--events", type=int, default=20_000)
    arguments, _ = parser.parse_known_args()
    print(json.dumps(asyncio.run(measure(arguments.pipelines, arguments.events))))


if __name__ == "__main__":
    main()
