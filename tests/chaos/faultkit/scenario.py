"""What a scenario is, and how it is played: an installation, traffic, faults, and then the checker's row."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from faultkit import checker, load, timeline
from faultkit.evidence import Evidence, collect, pending
from faultkit.fleet import Client, Fleet

_SETTLING = 60.0
"""Seconds in which what was taken up last must be completed."""
_PATIENCE = 3_600.0
"""Seconds a scenario may take; one that takes longer is judged by what it left behind."""


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
    deaths: int
    """At each step of each service."""
    steps: int
    """Of how many steps, chosen by the seed."""
    judges_times: bool = False
    """Whether a latency that doubles fails a row."""


SHORT = Size(
    requests=1_000, kills=8, zombies=2, restarts=2, away_seconds=2.0, malformed=1_000, storm=100, deaths=1, steps=3
)
WHOLE = Size(
    requests=20_000,
    kills=120,
    zombies=20,
    restarts=20,
    away_seconds=60.0,
    malformed=100_000,
    storm=1_000,
    deaths=20,
    steps=28,
    judges_times=True,
)


@dataclass
class Run:
    """A scenario under way."""

    fleet: Fleet
    client: Client
    evidence: Evidence
    size: Size
    chance: random.Random
    seed: int
    begun: float = field(default_factory=time.time)

    def fault(self) -> None:
        """Remember that something was broken now."""
        self.evidence.faults_at.append(time.time())

    async def publish(self, per_second: float, share: float = 1.0) -> None:
        """Publish a part of the requests at a rate."""
        first = len(self.evidence.sent)
        count = int(self.size.requests * share)
        await load.publish(self.client, load.requests(count, f"{self.seed}-{first}"), self.evidence, per_second)

    async def answered(self, patience: float = 180.0) -> None:
        """Wait until every request has an answer and nothing is pending or unread; what is missing then is lost."""
        await load.answered(self.client, self.evidence, patience, since=self.begun)


@dataclass(frozen=True)
class Scenario:
    """What goes wrong, and on which kind of installation."""

    play: Callable[[Run], Awaitable[None]]
    proxied: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    source: Callable[[Path, str], Mapping[str, str]] | None = None
    """A further environment of an instance: another version of the code, another clock."""


async def play(scenarios: Mapping[str, Scenario], folder: Path, size: Size, seed: int) -> AsyncIterator[checker.Row]:
    """Run scenarios one after the other on one installation; a row for each."""
    settings = {k: v for s in scenarios.values() for k, v in s.settings.items()}
    source = next((s.source for s in scenarios.values() if s.source), None)
    proxied = any(s.proxied for s in scenarios.values())
    async with (
        Fleet.running(folder, proxied=proxied, settings=settings, source=source) as fleet,
        fleet.client() as client,
    ):
        await load.first_model(client, folder)
        for number, (name, scenario) in enumerate(scenarios.items()):
            run = Run(fleet, client, Evidence(), size, random.Random(seed + number), seed + number)
            yield await _row(name, scenario, run)


async def _row(name: str, scenario: Scenario, run: Run) -> checker.Row:
    evidence = run.evidence
    begun = time.monotonic()
    try:
        await asyncio.wait_for(scenario.play(run), _PATIENCE)
    except TimeoutError:
        evidence.complaints.append(f"I7: not over after {_PATIENCE:.0f} s")
    seconds = time.monotonic() - begun
    evidence.steps = await _settled(run)
    await collect(run.client, load.PIPELINE, evidence, run.begun)
    deadline = time.monotonic() + _SETTLING
    while evidence.pending and time.monotonic() < deadline:  # a training that had to wait may have begun meanwhile
        await asyncio.sleep(0.1)
        evidence.pending = await pending(run.client)
    evidence.logs = run.fleet.logs()
    evidence.canaries = (load.CELL, *(secret.decode() for secret in run.fleet.secrets().values()))
    return checker.check(name, run.seed, seconds, evidence)


async def _settled(run: Run) -> list[timeline.Step]:
    """The histories, once all that was taken is completed: a training may begin after everything was quiet."""
    deadline = time.monotonic() + _SETTLING
    while True:
        steps = timeline.read(run.fleet.history, run.begun)
        kept = [s for s in steps if s.at > run.evidence.redis_lost_at]
        if not timeline.abandoned(kept) or time.monotonic() > deadline:
            return steps
        await asyncio.sleep(0.1)
