"""Scenario: each service dies by kill -9 at each step of its work, again and again, while the others do too."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping

from faultkit import load
from faultkit.fleet import LEASE_SECONDS
from faultkit.scenario import Run

STEPS: Mapping[str, tuple[str, ...]] = {
    "ingestion": ("read", "artifact", "manifest", "pointer", "completing", "complete"),
    "training": ("read", "artifact", "manifest", "completing", "complete"),
    "packaging": ("read", "artifact", "manifest", "completing", "complete"),
    "validation": ("read", "artifact", "pointer", "completing", "complete"),
    "serving": ("read", "completing", "complete"),
    "monitoring": ("read", "artifact", "completing", "complete"),
}
"""Where each can die: an entry was taken; a file, a manifest, an entry of a registry was stored; just before and just
after the step that publishes and acknowledges. Serving stores nothing."""
SETTINGS = {"MONITORING__LOG_SECONDS": "1", "TRAINING__MAX_ATTEMPTS": "100"}
RECOVERY_SECONDS = LEASE_SECONDS + 10
_IN_FLIGHT = 4
_PATIENCE = 600.0


class Plan:
    """Tells each new life of a service at which step to end, until each step has had its deaths."""

    def __init__(self, deaths: int, steps: int, chance: random.Random) -> None:
        every = [(name, step) for name, steps_of in STEPS.items() for step in steps_of]
        self.left = Counter(dict.fromkeys(chance.sample(every, min(steps, len(every))), deaths))
        self._chance = chance

    def awaits(self, instance: str) -> bool:
        """Whether this service has deaths before it."""
        service = instance.partition("-")[0]
        return any(self.left[service, step] > 0 for step in STEPS[service])

    def arm(self, instance: str) -> tuple[Mapping[str, str], str]:
        """The environment of its next life, and the step at which that will end ("": at none)."""
        service = instance.partition("-")[0]
        steps = [step for step in STEPS[service] if self.left[service, step] > 0]
        if not steps:
            return {}, ""
        step = self._chance.choice(steps)
        # Not always at the first: what the death before interrupted may be finished in between.
        return {"TIDEMILL_HISTORY__KILL_AT": f"{step}:{self._chance.choice((1, 2, 2, 3))}"}, step

    def died(self, instance: str, step: str) -> None:
        """One less."""
        self.left[instance.partition("-")[0], step] -= 1

    @property
    def over(self) -> bool:
        """Whether every step has had its deaths."""
        return not any(count > 0 for count in self.left.values())


class Fuse:
    """One service's lives: what the last one died of, what the next one is told."""

    def __init__(self, run: Run, plan: Plan, instance: str) -> None:
        self.armed = True
        self._run, self._plan, self._instance = run, plan, instance
        self.process = run.fleet.services[instance]
        self._step = ""
        self.process.environment = self._next_life

    def _next_life(self) -> Mapping[str, str]:
        at, pid, code = self.process.deaths[-1]
        if self._step and code == -signal.SIGKILL:
            self._plan.died(self._instance, self._step)
            self._run.evidence.killed.append(pid)
            self._run.evidence.faults_at.append(at)
        environment, self._step = self._plan.arm(self._instance) if self.armed else ({}, "")
        return environment


async def die_at_each_step(run: Run) -> None:
    """New pipelines go through the whole loop, requests come in, and whoever reaches its step dies there."""
    plan = Plan(run.size.deaths, run.size.steps, run.chance)
    tested = len(plan.left)
    fuses = [Fuse(run, plan, instance) for instance in run.fleet.services if plan.awaits(instance)]
    rows = run.fleet.directory / "rows.csv"
    names: list[str] = []
    deadline = time.monotonic() + _PATIENCE
    requests = load.requests(200_000, str(run.seed))
    for fuse in fuses:
        fuse.process.send(signal.SIGKILL)  # the next life is the first that was told
    while not plan.over and time.monotonic() < deadline:
        if len(set(names) - await load.champions(run.client)) < _IN_FLIGHT:
            names.append(f"chain-{run.seed}-{len(names)}")
            await load.declare(run.client, names[-1], rows)
        batch, requests = requests[:20], requests[20:]
        await load.publish(run.client, batch, run.evidence)
        await asyncio.sleep(0.25)
    for fuse in fuses:
        fuse.armed = False
        fuse.process.send(signal.SIGKILL)  # a life that was told, but has not come to its step
    if missing := await load.without_champion(run.client, names, 240):
        run.evidence.complaints.append(f"I7: {len(missing)} of {len(names)} pipelines have no model")
    await run.answered()
    run.evidence.longest_recovery = RECOVERY_SECONDS
    run.evidence.figures |= {"pipelines": len(names), "steps": tested, "deaths": len(run.evidence.killed)}
    for (service, step), left in plan.left.items():
        if left > 0:
            run.evidence.complaints.append(f"I7: {service} died {left} times too few at {step}: not tested")
