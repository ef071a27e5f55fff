"""Scenario: each service dies by kill -9 at each step of its work, again and again, while the others do too."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from faultkit import load
from faultkit.fleet import LEASE_SECONDS
from faultkit.scenario import Run
from faultkit.timeline import Watch

STEPS: Mapping[str, tuple[str, ...]] = {
    "ingestion": ("read", "artifact", "manifest", "pointer", "completing", "complete"),
    "training": ("read", "artifact", "manifest", "completing", "complete"),
    "packaging": ("read", "artifact", "manifest", "completing", "complete"),
    "validation": ("read", "artifact", "pointer", "completing", "complete"),
    "serving": ("read", "completing", "complete"),
    "monitoring": ("read", "artifact", "completing", "complete"),
}
"""Where each can die: an entry was taken; a file, a manifest, an entry of a registry was stored; just before and just
after the step that publishes and acknowledges. Serving stores something only where whole files or large tables are to
be predicted, which nobody asks for here: its artifact step is not among them."""
SETTINGS = {"MONITORING__LOG_SECONDS": "1", "TRAINING__MAX_ATTEMPTS": "100"}
RECOVERY_SECONDS = LEASE_SECONDS + 10
_IN_FLIGHT = 2
"""New pipelines on their way through the loop, which every service has a part in."""
_DYING = 2
"""Services that are dead at the same time, at most: what is measured is a recovery, not a shortage of processors."""
_STEP_SECONDS = 4.0
_PATIENCE = 3_000.0
"""Seconds after which it ends with fewer deaths than planned, and says how many there were."""
_ROWS = 500
"""Of each pipeline: enough for a model, not more."""


class Plan:
    """The deaths that are still to come."""

    def __init__(self, deaths: int, steps: int, chance: random.Random) -> None:
        every = [(name, step) for name, steps_of in STEPS.items() for step in steps_of]
        self.left = Counter(dict.fromkeys(chance.sample(every, min(steps, len(every))), deaths))
        self._chance = chance

    def next(self, instance: str) -> str | None:
        """A step at which this one is to die next."""
        service = instance.partition("-")[0]
        steps = [step for step in STEPS[service] if self.left[service, step] > 0]
        return self._chance.choice(steps) if steps else None

    @property
    def over(self) -> bool:
        """Whether every step has had its deaths."""
        return not any(count > 0 for count in self.left.values())


class Fuse:
    """Lets one instance die at step after step, each time when what the death before interrupted is done."""

    def __init__(self, run: Run, plan: Plan, instance: str, turn: asyncio.Semaphore) -> None:
        self._run, self._plan, self._instance, self._turn = run, plan, instance, turn
        self._process = run.fleet.services[instance]
        self._file = kill_file(run.fleet.directory, instance)
        service = instance.partition("-")[0]
        self._watch = Watch(run.fleet.history / f"{i}.jsonl" for i in run.fleet.services if i.startswith(service))

    async def burn(self) -> None:
        """Until the plan has no more deaths for it."""
        while step := self._plan.next(self._instance):
            async with self._turn:
                await self._die(step)
            await asyncio.sleep(0.05)

    async def _die(self, step: str) -> None:
        lives = len(self._process.deaths)
        told = self._file.with_suffix(".told")
        told.write_text(step)
        told.rename(self._file)
        ends = time.monotonic() + _STEP_SECONDS
        while len(self._process.deaths) == lives and time.monotonic() < ends:
            await asyncio.sleep(0.02)
        self._file.unlink(missing_ok=True)
        if len(self._process.deaths) == lives:
            return  # it has not come to that step; perhaps it comes to another one
        at, pid, _ = self._process.deaths[lives]
        self._plan.left[self._instance.partition("-")[0], step] -= 1
        self._run.evidence.killed.append(pid)
        self._run.evidence.faults_at.append(at)
        await self._run.fleet.ready(120, self._instance)
        ends = time.monotonic() + 60
        while self._watch.unfinished(pid) and time.monotonic() < ends:
            await asyncio.sleep(0.1)


def kill_file(folder: Path, instance: str) -> Path:
    """Where an instance is told at which step to die."""
    return folder / f"{instance}.die"


def told_by_file(folder: Path, instance: str) -> Mapping[str, str]:
    """Every instance looks for its file."""
    return {"TIDEMILL_HISTORY__KILL_FILE": str(kill_file(folder, instance))}


async def die_at_each_step(run: Run) -> None:
    """New pipelines go through the whole loop, requests come in, and whoever is told to dies at its step."""
    plan = Plan(run.size.deaths, run.size.steps, run.chance)
    rows = run.fleet.directory / "few-rows.csv"
    lines = (run.fleet.directory / "rows.csv").read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[: _ROWS + 1]))
    names: list[str] = []
    requests = load.requests(100_000, str(run.seed))
    turn = asyncio.Semaphore(_DYING)
    burning = asyncio.gather(*(Fuse(run, plan, instance, turn).burn() for instance in run.fleet.services))
    deadline = time.monotonic() + _PATIENCE
    while not plan.over and time.monotonic() < deadline:
        if len(set(names) - await load.champions(run.client)) < _IN_FLIGHT:
            names.append(f"chain-{run.seed}-{len(names)}")
            await load.declare(run.client, names[-1], rows)
        batch, requests = requests[:20], requests[20:]
        await load.publish(run.client, batch, run.evidence)
        await asyncio.sleep(0.25)
    if not plan.over:
        burning.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await burning
    if missing := await load.without_champion(run.client, names, 240):
        run.evidence.complaints.append(f"I7: {len(missing)} of {len(names)} pipelines have no model")
    await run.answered()
    run.evidence.longest_recovery = RECOVERY_SECONDS
    died = {point: run.size.deaths - left for point, left in plan.left.items()}
    run.evidence.figures |= {"pipelines": len(names), "steps": len(died), "deaths": len(run.evidence.killed)}
    run.evidence.figures["fewest_deaths_at_a_step"] = min(died.values())
    run.evidence.complaints += too_few(died, run.size.deaths)


def too_few(died: Mapping[tuple[str, str], int], planned: int) -> list[str]:
    """A sentence for each step at which a service died less often than it was to."""
    return [
        f"I7: {service} died {deaths} of {planned} times at {step}"
        for (service, step), deaths in died.items()
        if deaths < planned
    ]
