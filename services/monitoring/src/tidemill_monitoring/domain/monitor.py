"""One pipeline's monitor: rows in, findings out. Everything it remembers can be dumped and loaded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.findings import Finding
from tidemill_monitoring.domain.inputs import InputWatch
from tidemill_monitoring.domain.labels import LabelWatch
from tidemill_monitoring.domain.outcome import AnsweredRow, LabelledRow, positive_index
from tidemill_monitoring.domain.performance import Goal
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.reference import Reference
from tidemill_monitoring.domain.score import Outcome

Found = list[tuple[str, Finding]]
"""Findings, each with the id of the row that led to it."""


@dataclass(frozen=True, slots=True)
class Champion:
    """A promoted model: the number of its promotion, and what it was trained on (None when that cannot be read)."""

    version: str
    sequence: int
    reference: Reference | None = None


@dataclass(slots=True)
class Monitor:
    """The state of one pipeline. Rows by another model than the champion are counted, but judged nowhere."""

    policy: Policy
    calibration: Calibration
    inputs: InputWatch
    labels: LabelWatch
    champion: Champion | None = None
    counts: Counter[str] = field(default_factory=Counter)
    """Rows since the first, by what became of them; ``answered`` and ``labelled`` number them."""
    classes: int = 0
    """Classes the champion tells apart."""
    positive: int = 0
    """The positive one's position."""

    @classmethod
    def new(cls, policy: Policy, calibration: Calibration) -> "Monitor":
        """The monitor of a pipeline nothing is known of."""
        return cls(policy, calibration, InputWatch(), LabelWatch.new(policy))

    @property
    def alerts(self) -> set[str]:
        """What stands at the moment: ``data``, ``prediction``, ``concept``, ``performance``."""
        return self.inputs.alerts | self.labels.alerts

    @property
    def goal(self) -> Goal:
        """How the score is judged."""
        p = self.policy
        return Goal(
            p.metric, self.classes, self.positive, p.window_rows, p.min_rows, p.recovered_share, p.false_alarm_rate
        )

    def answered(self, rows: Sequence[AnsweredRow], champions: Mapping[str, Champion]) -> Found:
        """Take answered rows in order. ``champions`` holds the latest promotion of each version among them."""
        found: Found = []
        at = 0
        while at < len(rows):
            version = rows[at].answer.version
            end = next((i for i in range(at, len(rows)) if rows[i].answer.version != version), len(rows))
            run, at = rows[at:end], end
            found += self._consider(run[0], champions.get(version))
            first = self.counts["answered"] + 1
            self.counts["answered"] += len(run)
            champion = self.champion
            if champion is None or version != champion.version:
                self.counts["stray"] += len(run)
                continue
            verdicts = self.inputs.take(
                run,
                first,
                version=version,
                reference=champion.reference,
                positive=self.positive,
                policy=self.policy,
                calibration=self.calibration,
            )
            found += verdicts
            if verdicts and self.labels.rows < self.policy.min_rows:
                found.append((verdicts[-1][0], self.labels.conclude(version, self.goal)))
        return found

    def _consider(self, row: AnsweredRow, candidate: Champion | None) -> Found:
        """A promoted model takes over with its first answer: from then on there is something to judge."""
        present = self.champion
        if candidate is None or (present and candidate.sequence <= present.sequence):
            return []
        if present and candidate.version == present.version:
            self.champion = candidate
            return []
        last: list[Finding] = []
        if present:
            last += self.inputs.leave(present.version, present.reference, self.policy, self.calibration)
            last += self.labels.leave(present.version)
        self.champion = candidate
        self.classes = len(row.answer.classes)
        self.positive = positive_index(row.answer.classes, self.policy.positive)
        self.inputs = InputWatch.over(candidate.reference)
        self.labels.start(self.policy, self.goal, candidate.reference)
        return [(row.id, finding) for finding in last]

    def labelled(self, rows: Sequence[LabelledRow], wall: float) -> Found:
        """Take labelled rows in order; ``wall`` is the time in seconds."""
        found: Found = []
        goal = self.goal
        for row in rows:
            self.counts["labelled"] += 1
            self.labels.note(row.row.time)
            champion = self.champion
            if champion is None or row.row.answer.version != champion.version:
                self.counts["labelled_stray"] += 1
                continue
            findings = self.labels.take(
                row,
                self.counts["labelled"],
                version=champion.version,
                scale=champion.reference.target_scale if champion.reference else 1.0,
                policy=self.policy,
                goal=goal,
                wall=wall,
            )
            found += [(row.row.id, finding) for finding in findings]
        return found

    def dump(self) -> dict[str, Any]:
        """Everything but the reference and the latest outcomes, as JSON values."""
        champion = [self.champion.version, self.champion.sequence] if self.champion else None
        return {
            "champion": champion,
            "counts": dict(self.counts),
            "classes": [self.classes, self.positive],
            "inputs": self.inputs.dump(),
            "labels": self.labels.dump(),
        }

    @classmethod
    def load(
        cls,
        policy: Policy,
        calibration: Calibration,
        dumped: dict[str, Any],
        reference: Reference | None,
        recent: Sequence[Outcome],
    ) -> "Monitor":
        """What ``dump`` gave, back, with the champion's reference and the latest outcomes."""
        version, sequence = dumped["champion"] or (None, 0)
        champion = Champion(version, sequence, reference) if version else None
        return cls(
            policy,
            calibration,
            InputWatch.load(dumped["inputs"]),
            LabelWatch.load(policy, dumped["labels"], recent),
            champion,
            Counter(dumped["counts"]),
            *dumped["classes"],
        )
