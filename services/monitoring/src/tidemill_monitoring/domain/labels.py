"""What the truth says about the champion: the alarm on errors, the score, the recovery."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tidemill_monitoring.domain.adwin import Adwin
from tidemill_monitoring.domain.concept import ErrorWatch
from tidemill_monitoring.domain.expected import Confidence
from tidemill_monitoring.domain.findings import Broken, Detected, Evaluated, Finding, Mended, Resolved, Span
from tidemill_monitoring.domain.ledger import Ledger
from tidemill_monitoring.domain.loss_model import LossModel
from tidemill_monitoring.domain.measuring import Test, Verdict
from tidemill_monitoring.domain.outcome import LabelledRow, error_of, outcome_of
from tidemill_monitoring.domain.performance import Goal, Performance
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.reference import Reference
from tidemill_monitoring.domain.score import Outcome, reported
from tidemill_monitoring.domain.symptoms import Symptom
from tidemill_monitoring.domain.wrong_labels import ErrorPattern, Grouping

LASTING_ROWS = 500
"""Labelled rows after which wrong labels that do not stop are a change after all."""
_SOON_WINDOWS = 4
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
    pattern: ErrorPattern = field(default_factory=ErrorPattern)
    grouping: Grouping | None = None
    confidence: Confidence = field(default_factory=Confidence)
    losses: LossModel = field(default_factory=LossModel)
    alarm_row: int | None = None
    """The labelled row of the latest alarm on errors, by whichever champion."""
    doubt: Detected | None = None
    """An alarm on errors of which it is open whether the labels are to blame."""
    burst: int | None = None
    """The first labelled row of a burst of wrong labels that stands."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """First and last labelled row of bursts that are over."""
    ledger: Ledger = field(default_factory=Ledger)
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
        alarm = {"concept"} if self.errors.alarm_row and self.doubt is None else set()
        return alarm | ({"performance"} if episode and episode.degraded else set())

    def start(self, policy: Policy, goal: Goal, reference: Reference | None) -> None:
        """A new champion takes over."""
        self.errors = _errors(policy)
        self.pattern, self.confidence, self.losses = ErrorPattern(), Confidence(), LossModel()
        self.performance.recent.clear()
        self.rows, self.span, self.fresh, self.restarted = 0, NOTHING, [], True
        if reference:
            self.performance.anchor(reported(goal.metric, reference.score, reference.score_rows), goal)

    def leave(self, version: str, number: int) -> list[Finding]:
        """What is left to say about the model that goes after labelled row ``number``."""
        found: list[Finding] = []
        if self.burst is not None:
            found.append(self._mended(number, "new_model"))
        if self.errors.alarm_row and self.doubt is None:
            found.append(Resolved("concept", version, self.span, "new_model"))
        self.doubt = None
        return found

    def _mended(self, last: int, reason: Any) -> Mended:
        first, self.burst = self.burst or last, None
        self.spans = [*self.spans, (first, last)][-64:]
        return Mended("wrong_labels", "label", first, last, reason)

    def note(self, time: float) -> None:
        """A row of this event time, by whichever model, was labelled."""
        self.newest = time if self.newest is None else max(self.newest, time)

    def take(
        self,
        row: LabelledRow,
        number: int,
        *,
        version: str,
        reference: Reference | None,
        policy: Policy,
        goal: Goal,
        wall: float,
        suspect: Callable[[], bool] = bool,
    ) -> list[Finding]:
        """Take labelled row ``number``, which the champion ``version`` predicted. ``suspect`` tells whether the inputs
        of the latest rows look broken."""
        time = row.row.time
        newest = time if self.newest is None else self.newest
        outcome = outcome_of(row, classification=policy.classification)
        scale = reference.target_scale if reference else 1.0
        error = error_of(outcome, classification=policy.classification, scale=scale)
        self.rows += 1
        self._lengthen(number, time)
        if policy.classification and reference:
            if self.grouping is None or self.grouping.digest != reference.digest:
                self.grouping = Grouping(reference)
            self.pattern.take(number, int(error), self.grouping.of(row.row))
        if self.burst is not None:
            return self._in_burst(number, policy, wall)
        self.fresh.append(outcome)
        self.performance.take(outcome, version, number)
        self._learn(row, outcome, reference, policy)
        found = self._watch(error, number, time, newest, version, policy, reference, wall, suspect)
        if self.rows % policy.stride == 0 and self.doubt is None:
            judged = self.performance.judge(goal, version, number, newest, self.span, wall)
            if judged:
                found.append(judged)
        if self.span.rows >= policy.window_rows:
            found.append(self.conclude(version, goal))
        return found

    def _lengthen(self, number: int, time: float) -> None:
        span = self.span
        self.span = (
            Span(span.rows + 1, span.first, number, min(span.start, time), max(span.end, time))
            if span.rows
            else Span(1, number, number, time, time)
        )

    def _learn(self, row: LabelledRow, outcome: Outcome, reference: Reference | None, policy: Policy) -> None:
        """What labels teach about estimates; while an alarm stands the relation they rest on has changed."""
        if self.errors.alarm_row or reference is None:
            return
        answered = int(outcome.predicted)
        if policy.classification and 0 <= answered < len(outcome.probabilities):
            self.confidence.learn(outcome.probabilities[answered], outcome.truth == outcome.predicted)
        elif not policy.classification:
            loss = abs(outcome.truth - outcome.predicted)
            loss = loss * loss if policy.metric == "rmse" else loss
            self.losses.learn(reference, row.row.features, row.row.answer.prediction, loss)

    def _watch(
        self,
        error: float,
        number: int,
        time: float,
        newest: float,
        version: str,
        policy: Policy,
        reference: Reference | None,
        wall: float,
        suspect: Callable[[], bool],
    ) -> list[Finding]:
        """The alarm on errors, unless the inputs are broken or the labels may be."""
        change = self.errors.take(error, row=number, time=time, newest=newest, version=version)
        if isinstance(change, Detected):
            if suspect():
                self.errors = _errors(policy)
                return []
            self.doubt = change
        elif change:
            self.performance.calmed()
            doubted, self.doubt = self.doubt, None
            return [] if doubted else [change]
        return self._decide(number, version, policy, reference, wall)

    def _decide(
        self, number: int, version: str, policy: Policy, reference: Reference | None, wall: float
    ) -> list[Finding]:
        doubt = self.doubt
        if doubt is None:
            return []
        began = doubt.began_row or doubt.noticed_row
        judged = self.pattern.judge(began) if policy.classification and reference else "uneven"
        if judged is None:
            return []
        if judged == "uneven":
            self.doubt = None
            self.performance.alarmed(version, doubt.noticed_row, doubt.began_row, wall)
            return [self._with_course(doubt, policy)]
        self.burst = began
        rows = number - began + 1
        share = doubt.evidence[0].effect
        message = f"{share:.0%} of {rows} answers were wrong, in every group alike: the labels, not the world"
        symptom = Symptom("wrong_labels", "label", share, rows, message)
        return [Broken(symptom, version, began, number, doubt.noticed_at)]

    def _with_course(self, alarm: Detected, policy: Policy) -> Detected:
        """An alarm soon after another, the one before answered or not, tells of a change that goes on, unless it is
        clearly a jump: the first alarm of a gradual change comes before its course can be seen."""
        before, self.alarm_row = self.alarm_row, alarm.noticed_row
        if alarm.course or before is None or alarm.noticed_row - before > _SOON_WINDOWS * policy.window_rows:
            return alarm
        return replace(alarm, course="gradual")

    def _in_burst(self, number: int, policy: Policy, wall: float) -> list[Finding]:
        """Rows of a burst are judged by nobody; it ends when errors are as before, or turns out to last."""
        assert self.burst is not None  # noqa: S101 - the caller has looked
        first, doubt = self.burst, self.doubt
        if self.pattern.calm(first):
            self.errors, self.doubt = _errors(policy), None
            return [self._mended(number, "healthy")]
        if number - first < LASTING_ROWS:
            return []
        self.doubt = None
        found: list[Finding] = [self._mended(number, "lasting")]
        if doubt:
            self.performance.alarmed(doubt.version, doubt.noticed_row, doubt.began_row, wall)
        # What lasts is not kept from training: its rows are those of the new world.
        self.spans.pop()
        return [*found, self._with_course(doubt, policy)] if doubt else found

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
            "pattern": self.pattern.dump(),
            "confidence": [self.confidence.rows, self.confidence.right],
            "losses": self.losses.dump(),
            "alarm_row": self.alarm_row,
            "doubt": _dumped(self.doubt),
            "burst": self.burst,
            "spans": self.spans,
            "ledger": self.ledger.dump(),
        }

    @classmethod
    def load(
        cls,
        policy: Policy,
        dumped: dict[str, Any],
        recent: Sequence[Outcome],
        awaited: Iterable[tuple[str, float, Outcome]] = (),
    ) -> "LabelWatch":
        """What ``dump`` gave, back, with the latest outcomes and those of windows that wait for labels."""
        return cls(
            ErrorWatch.load(policy.error_delta, policy.window_rows, dumped["errors"], _spare(policy)),
            Performance.load(dumped["performance"], recent, policy.window_rows),
            dumped["rows"],
            dumped["newest"],
            Span(*dumped["span"]),
            ErrorPattern.load(dumped["pattern"]),
            None,
            Confidence(*dumped["confidence"]),
            LossModel.load(dumped["losses"]),
            dumped["alarm_row"],
            _loaded(dumped["doubt"]),
            dumped["burst"],
            [(first, last) for first, last in dumped["spans"]],
            Ledger.load(dumped["ledger"], awaited),
        )


def _errors(policy: Policy) -> ErrorWatch:
    return ErrorWatch(Adwin(policy.error_delta), policy.window_rows, spare=_spare(policy))


def _spare(policy: Policy) -> float:
    """Of what is right; errors of a regression are a few hundredths of their bound, so that it would be too much."""
    return (1 - policy.recovered_share) * (1.0 if policy.classification else 0.1)


def _dumped(doubt: Detected | None) -> dict[str, Any] | None:
    return asdict(doubt) if doubt else None


def _loaded(dumped: dict[str, Any] | None) -> Detected | None:
    if dumped is None:
        return None
    evidence = tuple(Test(**test | {"pair": tuple(test.get("pair", ()))}) for test in dumped["evidence"])
    return Detected(**dumped | {"span": Span(**dumped["span"]), "evidence": evidence, "features": ()})
