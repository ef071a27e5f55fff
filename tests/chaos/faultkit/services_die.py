"""Scenarios: services are killed, or stopped for longer than their lease, while requests come in."""

import asyncio
import signal

from faultkit.fleet import LEASE_SECONDS
from faultkit.scenario import Run


async def quiet(run: Run) -> None:
    """Nothing goes wrong."""
    await run.publish(2_000)
    await run.answered()


async def killed(run: Run) -> None:
    """kill -9 of any service every 20 to 50 ms, in bursts of six, while serving replicas are stopped and go on as
    zombies; between two bursts something may come up again.."""
    faults = asyncio.gather(_kill(run), *(_stop(run, f"serving-{n}", run.size.zombies // 2) for n in (1, 2)))
    await run.publish(1_000 if run.size.requests < 5_000 else 500)
    await faults
    await run.answered(240)


async def killed_and_replies_dropped(run: Run) -> None:
    """The same, and one of twenty replies of Redis is lost after it has done what it was asked."""
    faults = run.fleet.proxies["redis"].faults
    faults.drop_reply = 0.05
    await killed(run)
    run.evidence.figures["replies_dropped"] = run.fleet.proxies["redis"].dropped
    faults.drop_reply = 0.0
    await run.answered(60)


async def _kill(run: Run) -> None:
    left = run.size.kills
    while left > 0:
        for _ in range(min(left, 6)):
            process = run.chance.choice(list(run.fleet.services.values()))
            if process.send(signal.SIGKILL):
                run.fault()
                left -= 1
            await asyncio.sleep(run.chance.uniform(0.02, 0.05))
        await asyncio.sleep(2.0)


async def _stop(run: Run, instance: str, times: int) -> None:
    while times > 0:
        process = run.fleet.services[instance]
        stopped = process.pid
        if process.send(signal.SIGSTOP):
            run.fault()
            await asyncio.sleep(LEASE_SECONDS * 1.3)
            if process.pid == stopped:  # else it was killed while it stood still
                times -= 1
                process.send(signal.SIGCONT)
        await asyncio.sleep(run.chance.uniform(0.3, 0.8))
