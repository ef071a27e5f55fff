"""A model that is bad in production alone: from its first answer to the alarm, and from the alarm to the old model's.

    python tests/benchmarks/serving_rollback.py [--rate 1000] [--seconds 15]

Serving and validation run as in production, each a process. After a third of the time a package is promoted that passed
every check and never says 1, where the one before does for half the rows. The pipeline watches its promotions, so that
the model is withdrawn by itself. The alarm is validation's decision, as this process sees its event; the load ends a
second after the old model answers. The last line is one JSON object.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import serving_process
from serving_stream import PIPELINE, fit
from serving_swap import Load

from tidemill_contracts.events import ModelDeployed, ModelPromoted, PredictionFailed
from tidemill_contracts.rollout import RolloutPolicy
from tidemill_serving.garbage import look_rarely
from tidemill_shared.testing.platform import Platform
from tidemill_validation.settings import ValidationSettings

_AFTER_SECONDS = 1.0
"""Requests go on for so long after the old model answers again."""


@contextlib.asynccontextmanager
async def validation(opened: Platform) -> AsyncIterator[None]:
    """``python -m tidemill_validation`` until the block ends."""
    keys = opened.settings(ValidationSettings).keys
    files = ("public_file", "promotion_private_file", "promotion_public_file")
    variables = {f"KEYS__{name.upper()}": str(getattr(keys, name)) for name in files}
    env = os.environ | opened.environment(HTTP__PORT="0", **variables)
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tidemill_validation", env=env, stdout=quiet, stderr=quiet
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def alarm(opened: Platform, load: Load) -> float:
    """Seconds after the load's start when the rollback is announced."""
    while True:
        if any(e.data.kind == "rollback" for e in await opened.events(ModelPromoted)):
            return time.perf_counter() - load.start
        await asyncio.sleep(0.002)


async def returned(load: Load, old: str, bad: str) -> None:
    """Once the old model has answered after the bad one."""
    while True:
        versions = [version for _, _, version in load.answers]
        if bad in versions and old in versions[versions.index(bad) :]:
            return
        await asyncio.sleep(0.05)


async def measure(rate: int, seconds: float, first: float | None = None) -> dict[str, Any]:
    """One run of at most so many seconds, whose bad model comes after the first ones, by default a third."""
    bench = fit()
    async with serving_process.platform() as opened:
        policy = RolloutPolicy(watch_rows=int(rate * seconds))
        await opened.declare(serving_process.spec(PIPELINE).model_copy(update={"rollout": policy}))
        old = await serving_process.promote(opened, bench, PIPELINE, 1)
        previous = old.data.version
        bad = await serving_process.packed(opened, bench, PIPELINE, 2, threshold=2.0, previous=previous)
        async with serving_process.serving(opened), validation(opened):
            await opened.publish(old)
            await opened.wait_for(ModelDeployed)
            load = Load(opened, rate, seconds)
            await look_rarely()
            reading, sending = asyncio.create_task(load.read()), asyncio.create_task(load.send())
            await load.begun.wait()
            await asyncio.sleep(seconds / 3 if first is None else first)
            await opened.publish(await serving_process.enter(opened, bad))
            alarmed = await asyncio.wait_for(alarm(opened, load), 60)
            await asyncio.wait_for(returned(load, previous, bad.event.data.version), 60)
            await asyncio.sleep(_AFTER_SECONDS)
            load.stop()
            await sending
            await asyncio.wait_for(reading, 60)
            failed = len(await opened.events(PredictionFailed, PIPELINE))
            why = (await opened.events(ModelPromoted))[-1].data.reason
    worse = [at for _, at, version in load.answers if version == bad.event.data.version]
    return {
        "requests": len(load),
        "lost": len(load) - len({i for i, _, _ in load.answers}),
        "failed": failed,
        "first_answer_to_alarm_seconds": round(alarmed - min(worse), 3),
        "alarm_to_old_model_seconds": round(
            min(at for _, at, v in load.answers if v == old.data.version and at > min(worse)) - alarmed, 3
        ),
        "last_answer_by_the_bad_after_alarm_seconds": round(max(worse) - alarmed, 3),
        "reason": why,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    arguments, _ = parser.parse_known_args()
    print(json.dumps(asyncio.run(measure(arguments.rate, arguments.seconds))))


if __name__ == "__main__":
    main()
