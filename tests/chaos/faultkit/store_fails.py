"""Scenarios: the object store is away, slow, wrong, full, or dies in the middle of a write."""

import asyncio
import signal
import subprocess
import time

from faultkit import load
from faultkit.scenario import Run


async def away(run: Run) -> None:
    """The store is gone while rows arrive, a model is trained and predictions are asked for; serving goes on."""
    store = run.fleet.servers["store"]
    await load.arrivals(run.client, run.fleet.directory, 1, "first")
    await load.training(run.client)
    arriving = asyncio.create_task(load.arrivals(run.client, run.fleet.directory, 2, "during"))
    await asyncio.sleep(0.5)
    run.fault()
    await store.stop(signal.SIGKILL)
    ends = time.monotonic() + run.size.away_seconds
    await run.publish(run.size.requests / run.size.away_seconds)
    if not await load.answered(run.client, run.evidence, 20, since=run.begun, whole=False):
        run.evidence.complaints.append("I7: serving did not answer while the store was away")
    await asyncio.sleep(max(0.0, ends - time.monotonic()))
    await store.start()
    await arriving
    await run.answered()


async def misbehaves(run: Run) -> None:
    """The store answers with 500s, then slowly, then cut off, then with wrong bytes, while models are trained."""
    faults = run.fleet.proxies["store"].faults
    seconds = run.size.away_seconds / 4
    publishing = asyncio.create_task(run.publish(run.size.requests / (4 * seconds + 4)))
    for number, fault in enumerate(
        ({"answer_500": 0.3}, {"delay_seconds": 0.2}, {"cut_after": 3_000}, {"flip": 0.3})
    ):  # fmt: skip
        await load.arrivals(run.client, run.fleet.directory, 1, f"fault-{number}")
        await load.training(run.client)
        run.fault()
        for name, value in fault.items():
            setattr(faults, name, value)
        await asyncio.sleep(seconds)
        for name in fault:
            setattr(faults, name, None if name == "cut_after" else 0.0)
    await publishing
    await run.answered()


async def killed(run: Run) -> None:
    """The store is killed again and again, with writes under way, while rows arrive and models are trained."""
    arriving = asyncio.create_task(load.arrivals(run.client, run.fleet.directory, run.size.restarts // 2 + 1, "mid"))
    for _ in range(run.size.restarts):
        await load.training(run.client)
        await asyncio.sleep(run.chance.uniform(0.3, 1.5))
        run.fault()
        run.fleet.servers["store"].send(signal.SIGKILL)
    await run.publish(2_000, 0.2)
    await arriving
    await run.answered()


async def full(run: Run) -> None:
    """The disk under the store fills up while rows arrive and a model is trained, and is made larger again."""
    disk, ballast = run.fleet.directory / "store", run.fleet.directory / "store" / "ballast"
    store = run.fleet.servers["store"]
    kept = run.fleet.directory / "kept"
    await store.stop(signal.SIGKILL)
    disk.rename(kept)
    disk.mkdir(mode=0o700)
    size = sum(f.stat().st_size for f in kept.rglob("*") if f.is_file())
    if await _run("mount", "-t", "tmpfs", "-o", f"size={size + (48 << 20)}", "tmpfs", str(disk)):
        run.evidence.figures["skipped"] = 1  # it takes root
        disk.rmdir()
        kept.rename(disk)
        await store.start()
        return
    try:
        await _run("cp", "-a", f"{kept}/.", str(disk))
        await store.start()
        await asyncio.sleep(1)
        run.fault()
        await _run("dd", "if=/dev/zero", f"of={ballast}", "bs=64k")
        arriving = asyncio.create_task(load.arrivals(run.client, run.fleet.directory, 2, "full"))
        await load.training(run.client)
        await run.publish(500, 0.2)
        if not await load.answered(run.client, run.evidence, 30, since=run.begun, whole=False):
            run.evidence.complaints.append("I7: serving did not answer while the disk was full")
        await asyncio.sleep(8)
        ballast.unlink()
        await arriving
        await run.answered()
        await store.stop(signal.SIGKILL)
        await _run("sh", "-c", f"rm -rf {kept}/* && cp -a {disk}/. {kept}/")
    finally:
        await _run("umount", "-l", str(disk))
        disk.rmdir()
        kept.rename(disk)
        await store.start()
        await asyncio.sleep(1)


async def _run(*words: str) -> int:
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, check=False)
    return done.returncode
