"""One pipeline's monitor: rows in, findings out. Everything it remembers can be dumped and loaded."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.findings import Detected, Estimate, Evaluated, Finding
from tidemill_monitoring.domain.inputs import InputWatch, Setting
from tidemill_monitoring.domain.labels import LabelWatch
from tidemill_monitoring.domain.outcome import AnsweredRow, Cell, LabelledRow, outcome_of, positive_index
from tidemill_monitoring.domain.performance import Goal
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.quality import CHUNK_ROWS
from tidemill_monitoring.domain.reference import Reference
from tidemill_monitoring.domain.refusals import RefusedRow
from tidemill_monitoring.domain.score import Outcome
from tidemill_monitoring.domain.window import RowWindow

FORMAT = 2
"""Of the dumped state; another one is not read, and the monitor starts afresh."""
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

    def answered(self, rows: Sequence[AnsweredRow], champions: Mapping[str, Champion], wall: float = math.inf) -> Found:
        """Take answered rows in order at time ``wall``. ``champions`` holds the latest promotion of each version among
        them."""
        found: Found = []
        at = 0
        while at < len(rows):
            version = rows[at].answer.version
            end = next((i for i in range(at, len(rows)) if rows[i].answer.version != version), len(rows))
            run, at = rows[at:end], end
            found += self._consider(run[0], champions.get(version), wall)
            first = self.counts["answered"] + 1
            for number, row in enumerate(run, first):
                row.number = number
            self.counts["answered"] += len(run)
            champion = self.champion
            if champion is None or version != champion.version:
                self.counts["stray"] += len(run)
                continue
            verdicts = self._compared(run, first, champion, wall)
            found += verdicts
            judged = [id_ for id_, finding in verdicts if isinstance(finding, Evaluated)]
            if judged and self.labels.rows < self.policy.min_rows:
                found.append((judged[-1], self.labels.conclude(version, self.goal)))
        return found

    def _compared(self, run: Sequence[AnsweredRow], first: int, champion: Champion, wall: float) -> Found:
        """The champion's answers against the reference, and into the ledger of windows that wait for labels."""
        setting = self._setting(champion, wall)
        if setting is None:
            return []
        horizon = self.inputs.horizon
        before = horizon.ahead
        found = self.inputs.take(run, first, setting)
        self.counts["ahead"] += horizon.ahead - before
        for place, rows in Counter(row.place for row in run if row.place).items():
            self.labels.ledger.expect(place, champion.version, run[0].answer.classes, self.positive, rows)
        return self._settle(found, wall)

    def _setting(self, champion: Champion, wall: float) -> Setting | None:
        if champion.reference is None:
            return None
        return Setting(
            champion.version,
            champion.reference,
            self.positive,
            self.policy,
            self.calibration,
            self.labels.confidence,
            wall,
        )

    def _settle(self, found: Found, wall: float) -> Found:
        """Tell the ledger which windows closed, and their verdicts what the score probably is."""
        for closed in self.inputs.closed:
            self.counts["late"] += closed.span.late
            estimated = self._estimate(closed.window)
            self.labels.ledger.close(closed.place, closed.span, wall, estimated)
            found = [(id_, _with_estimate(f, closed.span.first, estimated)) for id_, f in found]
        self.inputs.closed = []
        return found

    def _estimate(self, window: RowWindow) -> Estimate | None:
        labels, policy = self.labels, self.policy
        if policy.classification:
            value = window.expected.value(policy.metric, self.positive)
            return Estimate(value, window.expected.rows, "confidence", labels.confidence.learned) if value else None
        value = labels.losses.estimate(window) if policy.metric in ("mae", "rmse") else None
        if value is None:
            return None
        value = math.sqrt(value) if policy.metric == "rmse" else value
        return Estimate(value, window.rows, "loss", labels.losses.rows)

    def _consider(self, row: AnsweredRow, candidate: Champion | None, wall: float) -> Found:
        """A promoted model takes over with its first answer: from then on there is something to judge."""
        present = self.champion
        if candidate is None or (present and candidate.sequence <= present.sequence):
            return []
        if present and candidate.version == present.version:
            self.champion = candidate
            return []
        last: Found = []
        if present:
            left = self.inputs.leave(self.counts["answered"], self._setting(present, wall))
            last += self._settle([(row.id, finding) for finding in left], wall)
            last += [(row.id, finding) for finding in self.labels.leave(present.version, self.counts["labelled"])]
        self.champion = candidate
        self.classes = len(row.answer.classes)
        self.positive = positive_index(row.answer.classes, self.policy.positive)
        self.inputs = InputWatch.over(candidate.reference, self.inputs)
        self.labels.start(self.policy, self.goal, candidate.reference)
        return last

    def refused(self, rows: Sequence[RefusedRow], at: float) -> list[Finding]:
        """Take requests that were refused, at event time ``at``."""
        champion = self.champion
        if champion is None or champion.reference is None:
            return []
        known = frozenset(column.name for column in champion.reference.columns)
        return self.inputs.quality.refuse(rows, known, at, champion.version)

    def corrected(self, id_: str, label: Cell, at: float) -> None:
        """A label came for a row that had one."""
        if self.labels.ledger.correct(id_, label, at):
            self.counts["corrected"] += 1
            self.counts["repeated"] -= 1

    def matured(self, wall: float, most_rows: float = math.inf) -> list[Finding]:
        """The scores of windows whose labels are in, or whose time is up, or that are too many: more than
        ``most_rows`` labelled rows wait (and more than two windows, however large they are)."""
        policy = self.policy
        most = max(most_rows, 2 * policy.window_rows)
        return list(self.labels.ledger.mature(policy.metric, wall, policy.label_seconds, most))

    def labelled(self, rows: Sequence[LabelledRow], wall: float) -> Found:
        """Take labelled rows in order; ``wall`` is the time in seconds. Rows in doubt are measured and teach
        nothing."""
        found: Found = []
        goal, quality = self.goal, self.inputs.quality
        for row in rows:
            self.counts["labelled"] += 1
            self.labels.note(row.row.time)
            if row.row.place:
                outcome = outcome_of(row, classification=self.policy.classification)
                self.labels.ledger.label(row.row.place, row.row.id, outcome, row.at)
            champion = self.champion
            if champion is None or row.row.answer.version != champion.version:
                self.counts["labelled_stray"] += 1
                continue
            if quality.doubtful(row.row.number):
                self.counts["labelled_doubtful"] += 1
                continue
            findings = self.labels.take(
                row,
                self.counts["labelled"],
                version=champion.version,
                reference=champion.reference,
                policy=self.policy,
                goal=goal,
                wall=wall,
                suspect=partial(self._suspect, row.row.number),
            )
            found += [(row.row.id, finding) for finding in findings]
        return found

    def _suspect(self, number: int) -> bool:
        reference = self.champion.reference if self.champion else None
        return reference is not None and self.inputs.quality.suspect(reference, number - 2 * CHUNK_ROWS)

    def held(self) -> dict[str, Any]:
        """Which rows must not be sent back: spans in doubt and where open ones begin, and the last row that is certain;
        by number of answered (``rows``) and of labelled rows (``labels``)."""
        quality, labels = self.inputs.quality, self.labels
        firsts = [b.first for b in quality.standing.values() if not b.refused]
        judged = self.inputs.judged
        return {
            "rows": [list(span) for span in quality.spans],
            "rows_from": min(firsts) if firsts else None,
            "certain": quality.certain if judged else None,
            "labels": [list(span) for span in labels.spans],
            "labels_from": labels.burst if labels.burst is not None else _began(labels.doubt),
        }

    def dump(self) -> dict[str, Any]:
        """Everything but the reference and the latest outcomes, as JSON values."""
        champion = [self.champion.version, self.champion.sequence] if self.champion else None
        return {
            "format": FORMAT,
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
        awaited: Sequence[tuple[str, float, Outcome]] = (),
        history: Mapping[str, RowWindow] = MappingProxyType({}),
    ) -> "Monitor":
        """What ``dump`` gave, back, with the champion's reference, the latest outcomes, the outcomes of windows that
        wait for labels, and the windows that later ones are compared with."""
        version, sequence = dumped["champion"] or (None, 0)
        champion = Champion(version, sequence, reference) if version else None
        return cls(
            policy,
            calibration,
            InputWatch.load(dumped["inputs"], dict(history)),
            LabelWatch.load(policy, dumped["labels"], recent, awaited),
            champion,
            Counter(dumped["counts"]),
            *dumped["classes"],
        )


def _with_estimate(finding: Finding, first: int, estimated: Estimate | None) -> Finding:
    """The verdict on the inputs of the window that begins with row ``first`` tells the estimate too."""
    if isinstance(finding, Evaluated) and finding.kind == "data" and finding.span.first == first:
        return replace(finding, estimated=estimated)
    return finding


def _began(doubt: Detected | None) -> int | None:
    return None if doubt is None else doubt.began_row or doubt.noticed_row
