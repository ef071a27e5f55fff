"""One checker over what a run left behind: the row of figures, with every violation of an invariant."""

import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from faultkit import timeline
from faultkit.evidence import Evidence
from faultkit.invariants import INVARIANTS


@dataclass(frozen=True)
class Row:
    """What a scenario ended with."""

    scenario: str
    seed: int
    sent: int
    answered: int
    lost: int
    duplicated_raw: int
    doubled: int
    """Requests with more than one answer after de-duplication by event id."""
    conflicting: int
    """Answers that bear one id and differ."""
    dead_lettered: int
    faults: int
    recovery_median: float | None
    recovery_max: float | None
    """Seconds from a fault to the next answer; of a death at a step, until another life took up its work."""
    seconds: float
    broken: tuple[str, ...]
    """Violations of invariants, each with its number."""
    figures: dict[str, float]
    """What else was measured."""

    @property
    def passed(self) -> bool:
        """Nothing lost, doubled or conflicting, no invariant broken."""
        return not (self.lost or self.doubled or self.conflicting or self.broken)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"passed": self.passed}


def check(scenario: str, seed: int, seconds: float, evidence: Evidence) -> Row:
    """The row of a scenario."""
    by_request: dict[str, set[str]] = defaultdict(set)
    by_id: dict[str, set[bytes]] = defaultdict(set)
    for answer in evidence.answers:
        by_request[answer.prediction_id].add(answer.id)
        by_id[answer.id].add(answer.body)
    answered = {i for i in evidence.sent if by_request.get(i)}
    deaths = timeline.deaths(evidence.steps, evidence.killed)
    waits = [d.resumed for d in deaths if d.resumed is not None] if evidence.killed else recoveries(evidence)
    return Row(
        scenario=scenario,
        seed=seed,
        sent=len(evidence.sent),
        answered=len(answered),
        lost=len(evidence.sent) - len(answered),
        duplicated_raw=len(evidence.answers) - len(by_id),
        doubled=sum(1 for found in by_request.values() if len(found) > 1),
        conflicting=sum(1 for found in by_id.values() if len(found) > 1),
        dead_lettered=sum(evidence.dead.values()),
        faults=len(evidence.faults_at),
        recovery_median=round(statistics.median(waits), 2) if waits else None,
        recovery_max=round(max(waits), 2) if waits else None,
        seconds=round(seconds, 1),
        broken=(
            *(f"{name}: {what}" for name, rule in INVARIANTS.items() for what in rule(evidence)),
            *evidence.complaints,
        ),
        figures=evidence.figures,
    )


def recoveries(evidence: Evidence) -> list[float]:
    """Seconds from each fault to the first answer after it; faults after the last answer do not count."""
    times = sorted(answer.at for answer in evidence.answers)
    found, position = [], 0
    for fault in sorted(evidence.faults_at):
        while position < len(times) and times[position] < fault:
            position += 1
        if position < len(times):
            found.append(times[position] - fault)
    return found
