"""Two serving processes on one stream, killed with -9 in turn and started again, while requests come at a fixed rate.

    python tests/benchmarks/serving_kills.py [--rate 2000] [--seconds 15] [--kills 4]

Every request must be answered, and none by two entries of the stream. What a killed process held is taken over when its
lease, shortened to 2 s here, has run out. The last line is one JSON object.
"""

import argparse
import asyncio
import contextlib
import json
import time
from collections import Counter
from typing import Any

import serving_process
from serving_stream import PIPELINE, fit
from serving_swap import Load

from tidemill_contracts.events import ModelDeployed, PredictionFailed
from tidemill_shared.testing.platform import Platform

_PATIENCE_SECONDS = 60.0


async def replica(opened: Platform, instance: int, deadly: asyncio.Event) -> None:
    """A process that begins anew each time it was killed."""
    variables = {"TIDEMILL_INSTANCE": str(instance), "TIDEMILL_DELIVERY__LEASE_SECONDS": "2"}
    while True:
        async with serving_process.serving(opened, **variables) as process:
            await deadly.wait()
            process.kill()
            await process.wait()
            deadly.clear()


async def kill(deadly: list[asyncio.Event], kills: int, seconds: float) -> None:
    """Now the one, now the other, evenly over this time."""
    for number in range(kills):
        await asyncio.sleep(seconds / (kills + 1))
        deadly[number % len(deadly)].set()


async def measure(rate: int, seconds: float, kills: int) -> dict[str, Any]:
    """One run."""
    bench = fit()
    async with serving_process.platform() as opened, contextlib.AsyncExitStack() as stack:
        await opened.declare(serving_process.spec(PIPELINE))
        promoted = await serving_process.promote(opened, bench, PIPELINE, 1)
        deadly = [asyncio.Event(), asyncio.Event()]
        replicas = [asyncio.create_task(replica(opened, i, event)) for i, event in enumerate(deadly, start=1)]
        stack.push_async_callback(_end, replicas)
        await opened.publish(promoted)
        await opened.wait_for(ModelDeployed)
        load = Load(opened, rate, seconds)
        reading = asyncio.create_task(load.read())
        await asyncio.gather(load.send(), kill(deadly, kills, seconds))
        sent = time.perf_counter() - load.start
        await asyncio.wait([reading], timeout=_PATIENCE_SECONDS)
        await _end([reading])
        failed = len(await opened.events(PredictionFailed, PIPELINE))
    answered = Counter(i for i, _, _ in load.answers)
    return {
        "requests": len(load),
        "kills": kills,
        "lost": len(load) - len(answered),
        "failed": failed,
        "doubled": sum(n - 1 for n in answered.values()),
        "last_answer_after_the_last_request_seconds": round(max(at for _, at, _ in load.answers) - sent, 2),
    }


async def _end(tasks: "list[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--kills", type=int, default=4)
    arguments, _ = parser.parse_known_args()
    print(json.dumps(asyncio.run(measure(arguments.rate, arguments.seconds, arguments.kills))))


if __name__ == "__main__":
    main()
