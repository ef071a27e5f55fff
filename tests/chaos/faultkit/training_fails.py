"""Scenario: trainings are killed as for lack of memory, hang, and outlast their deadline."""

import asyncio
import signal
import time

import psutil

from faultkit import load
from faultkit.scenario import Run
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import TrainingFailed
from tidemill_contracts.registry import parse_as
from tidemill_contracts.streams import stream_key

LIMIT_SECONDS = 8
SETTINGS = {"TRAINING__LIMIT_SECONDS": str(LIMIT_SECONDS), "TRAINING__MAX_ATTEMPTS": "4"}


async def killed_and_hung(run: Run) -> None:
    """A training whose process is killed is tried again, and given up after four; one that hangs ends at its deadline
    and is reported; the service is never restarted, and requests are answered all the while."""
    publishing = asyncio.create_task(run.publish(200, 0.25))
    lives = len(run.fleet.services["training-1"].deaths)
    await _break_next(run, signal.SIGKILL, 1)  # tried again
    await run.answered()
    before = await _failed(run)
    await _break_next(run, signal.SIGKILL, 4)  # given up
    if await _failed_after(run, before) is None:
        run.evidence.complaints.append("I7: a training that was killed four times was not reported as failed")
    before = await _failed(run)
    await _break_next(run, signal.SIGSTOP, 1)  # over its deadline
    stopped = time.monotonic()
    if await _failed_after(run, before) is None:
        run.evidence.complaints.append("I7: a training that hung was not reported as failed")
    run.evidence.figures["hung_reported_after_seconds"] = round(time.monotonic() - stopped, 1)
    await load.arrivals(run.client, run.fleet.directory, 1, "after")
    await load.training(run.client)
    await publishing
    await run.answered()
    if len(run.fleet.services["training-1"].deaths) != lives:
        run.evidence.complaints.append("I7: the trainer was restarted")


async def _break_next(run: Run, number: signal.Signals, times: int) -> None:
    """Ask for a training and send a signal to its process, as often as one appears."""
    parent = run.fleet.services["training-1"].pid
    known = _children(parent)
    await load.training(run.client)
    deadline = time.monotonic() + 60
    while times and time.monotonic() < deadline:
        for pid in _children(parent) - known:
            known.add(pid)
            await asyncio.sleep(0.2)
            try:
                psutil.Process(pid).send_signal(number)
            except psutil.NoSuchProcess:
                continue
            run.fault()
            times -= 1
        await asyncio.sleep(0.01)


def _children(parent: int | None) -> set[int]:
    """Processes forked for work: children of the server that the service forks them from."""
    servers = psutil.Process(parent).children()
    return {child.pid for server in servers for child in server.children()}


async def _failed(run: Run) -> int:
    return len(await _reports(run))


async def _reports(run: Run) -> list[TrainingFailed]:
    found = await run.client.bus.redis.xrange(stream_key(run.client.namespace, TrainingFailed.type_name()))
    return [parse_as(TrainingFailed, fields[FIELD.encode()]) for _, fields in found]


async def _failed_after(run: Run, before: int) -> TrainingFailed | None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        reports = await _reports(run)
        if len(reports) > before:
            return reports[-1]
        await asyncio.sleep(0.1)
    return None
