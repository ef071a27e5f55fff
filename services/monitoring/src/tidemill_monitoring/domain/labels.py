"""What the truth says about the champion: the alarm on errors, the score, the recovery."""

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tidemill_monitoring.domain.adwin import Adwin
from tidemill_monitoring.domain.concept import ErrorWatch
from tidemill_monitoring.domain.findings import Detected, Evaluated, Finding, Resolved, Span
from tidemill_monitoring.domain.measuring import Test, Verdict
from tidemill_monitoring.domain.outcome import LabelledRow, error_of, outcome_of
from tidemill_monitoring.domain.performance import Goal, Performance
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.reference import Reference
from tidemill_monitoring.domain.score import Outcome, reported

NOTHING = Span(0, 0, 0, 0.0, 0.0)


@dataclass(slots=True)
class LabelWatch:
    """One pipeline's labelled rows. Episodes and the baseline outlive champions; everything else is per champion."""

    errors: ErrorWatch
    performance: Performance
    rows: int = 0
    """Labelled rows of the champion."""
    newest: float | None = None
    """Latest event time of any labelled row."""
    span: Span = NOTHING
    """The champion's labelled rows since the last verdict."""
    fresh: list[Outcome] = field(default_factory=list)
    """Outcomes not stored yet."""
    restarted: bool = False
    """Whether the stored outcomes belong to a former champion."""

    @classmethod
    def new(cls, policy: Policy) -> "LabelWatch":
        """Nothing labelled yet."""
        return cls(_errors(policy), Performance(deque(maxlen=policy.window_rows)))

    @property
    def alerts(self) -> set[str]:
        """``concept`` while the alarm on errors stands, ``performance`` while the score is degraded."""
        episode = self.performance.episode
        alarm = {"concept"} if self.errors.alarm_row else set()
        return alarm | ({"performance"} if episode and episode.degraded else set())

    def start(self, policy: Policy, goal: Goal, reference: Reference | None) -> None:
        """A new champion takes over."""
        self.errors = _errors(policy)
        self.performance.recent.clear()
        self.rows, self.span, self.fresh, self.restarted = 0, NOTHING, [], True
        if reference:
            self.performance.anchor(reported(goal.metric, reference.score, reference.score_rows), goal)

    def leave(self, version: str) -> list[Finding]:
        """What is left to say about the model that goes."""
        return [Resolved("concept", version, self.span, "new_model")] if self.errors.alarm_row else []

    def note(self, time: float) -> None:
        """A row of this event time, by whichever model, was labelled."""
        self.newest = time if self.newest is None else max(self.newest, time)

    def take(
        self, row: LabelledRow, number: int, *, version: str, scale: float, policy: Policy, goal: Goal, wall: float
    ) -> list[Finding]:
        """Take labelled row ``number``, which the champion ``version`` predicted."""
        time = row.row.time
        newest = time if self.newest is None else self.newest
        outcome = outcome_of(row, classification=policy.classification)
        error = error_of(outcome, classification=policy.classification, scale=scale)
        self.rows += 1
        span = self.span
        self.span = (
            Span(span.rows + 1, span.first, number, min(span.start, time), max(span.end, time))
            if span.rows
            else Span(1, number, number, time, time)
        )
        self.fresh.append(outcome)
        self.performance.take(outcome, version, number)
        found: list[Finding] = []
        change = self.errors.take(error, row=number, time=time, newest=newest, version=version)
        if isinstance(change, Detected):
            self.performance.alarmed(version, number, change.began_row, wall)
        elif change:
            self.performance.calmed()
        if change:
            found.append(change)
        if self.rows % policy.stride == 0:
            judged = self.performance.judge(goal, version, number, newest, self.span, wall)
            if judged:
                found.append(judged)
        if self.span.rows >= policy.window_rows:
            found.append(self.conclude(version, goal))
        return found

    def conclude(self, version: str, goal: Goal) -> Evaluated:
        """The verdict on errors since the last one."""
        span, self.span = self.span, NOTHING
        verdict: Verdict = "drift" if self.errors.alarm_row else "stable"
        score = self.performance.measure(goal)
        if self.rows < goal.min_rows:
            verdict = "insufficient_data"
        elif verdict == "stable" and self.performance.episode is not None:
            verdict = "warning"
        adwin = self.errors.adwin
        test = Test("error", "adwin", adwin.mean, 0.0, 1.0, adwin.mean, adwin.width, span.rows, verdict)
        return Evaluated("concept", version, verdict, span, (test,), "none", score.value if score else None)

    def dump(self) -> dict[str, Any]:
        """Everything but the latest outcomes, as JSON values."""
        return {
            "errors": self.errors.dump(),
            "performance": self.performance.dump(),
            "rows": self.rows,
            "newest": self.newest,
            "span": list(asdict(self.span).values()),
        }

    @classmethod
    def load(cls, policy: Policy, dumped: dict[str, Any], recent: Sequence[Outcome]) -> "LabelWatch":
        """What ``dump`` gave, back, with the latest outcomes."""
        return cls(
            ErrorWatch.load(policy.error_delta, policy.window_rows, dumped["errors"]),
            Performance.load(dumped["performance"], recent, policy.window_rows),
            dumped["rows"],
            dumped["newest"],
            Span(*dumped["span"]),
        )


def _errors(policy: Policy) -> ErrorWatch:
    return ErrorWatch(Adwin(policy.error_delta), policy.window_rows)
