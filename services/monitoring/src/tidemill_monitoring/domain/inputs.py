"""What arrives, against what it is compared with: no labels needed."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.expected import Confidence
from tidemill_monitoring.domain.findings import Detected, Evaluated, Finding, Resolved, Span
from tidemill_monitoring.domain.horizon import Horizon
from tidemill_monitoring.domain.measuring import Test
from tidemill_monitoring.domain.outcome import Answer, AnsweredRow, class_index
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.quality import QualityWatch
from tidemill_monitoring.domain.reference import Reference
from tidemill_monitoring.domain.sample import Sample
from tidemill_monitoring.domain.verdict import CORRECTION, Standing, test_columns, test_prediction, worst
from tidemill_monitoring.domain.window import RowWindow, cells_of

Kind = Literal["data", "prediction"]
KINDS: tuple[Kind, ...] = ("data", "prediction")
_SHOWN = 40
"""Tests a verdict carries at most; the gravest come first. An event must stay below 64 KiB."""
_GRAVITY = {"drift": 0, "warning": 1, "stable": 2, "insufficient_data": 3}
NOWHERE = ""
"""The place of a row that belongs to no window."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A window that is over, and its place."""

    place: str
    window: RowWindow
    span: Span


@dataclass(frozen=True, slots=True)
class Setting:
    """What the judgement of inputs needs to know of the champion."""

    version: str
    reference: Reference
    positive: int
    policy: Policy
    calibration: Calibration
    confidence: Confidence
    wall: float


@dataclass(slots=True)
class InputWatch:
    """The open windows of one champion, and where its two kinds of input drift stand."""

    judged: bool = False
    """False: the champion came without a reference, so nothing can be compared."""
    windows: dict[int, RowWindow] = field(default_factory=dict)
    """By place in time; a window by count has the place 0."""
    standings: dict[Kind, Standing] = field(default_factory=lambda: {kind: Standing() for kind in KINDS})
    horizon: Horizon = field(default_factory=Horizon)
    quality: QualityWatch = field(default_factory=QualityWatch)
    history: dict[str, RowWindow] = field(default_factory=dict)
    """Closed windows that later ones are compared with; kept beside the rest of the state."""
    fresh: set[str] = field(default_factory=set)
    """Those of them that are not stored yet."""
    closed: list[Closed] = field(default_factory=list)
    """Windows that closed since somebody asked."""

    @classmethod
    def over(cls, reference: Reference | None, former: "InputWatch | None" = None) -> "InputWatch":
        """A fresh watch for a new champion; event time and rows in doubt go on."""
        spans = former.quality.spans if former else ()
        horizon = former.horizon if former else Horizon()
        return cls(reference is not None, horizon=horizon, quality=QualityWatch.over(reference, spans))

    @property
    def alerts(self) -> set[str]:
        """The kinds that are in drift."""
        return {kind for kind, standing in self.standings.items() if standing.drifting}

    def take(self, rows: Sequence[AnsweredRow], first: int, setting: Setting) -> list[tuple[str, Finding]]:
        """Count answered rows, the first of which has number ``first``; findings with the id of the row that led to
        each. Every row learns its place."""
        if not self.judged:
            return []
        found: list[tuple[str, Finding]] = []
        at = 0
        while at < len(rows):
            index, count = self._stretch(rows[at:], setting)
            chunk = rows[at : at + count]
            found += [(chunk[-1].id, f) for f in self._add(chunk, first + at, index, setting)]
            at += count
            found += [(chunk[-1].id, f) for f in self._close_due(setting)]
        return found

    def _stretch(self, rows: Sequence[AnsweredRow], setting: Setting) -> tuple[int | None, int]:
        """The window of the first row (None: none is open to it), and how many rows can be added to it at once."""
        policy, horizon, width = setting.policy, self.horizon, setting.policy.window_seconds
        most = len(rows)
        if width is None:
            open_ = self.windows.get(0)
            # A new revision of the pipeline may have made windows shorter than this one already is.
            most = max(1, policy.window_rows - (open_.rows if open_ else 0))
            for row in rows[:most]:
                horizon.note(row.time, policy.lateness_seconds, setting.wall)
            return 0, min(most, len(rows))
        index: int | None = None
        for count, row in enumerate(rows[:most]):
            place = self._index(row.time, width, setting)
            if count and place != index:
                return index, count
            before = horizon.closed(policy.lateness_seconds, width)
            timely = horizon.note(row.time, policy.lateness_seconds, setting.wall)
            index = place if timely else None
            if horizon.closed(policy.lateness_seconds, width) != before:
                return index, count + 1
        return index, min(most, len(rows))

    def _index(self, time: float, width: float, setting: Setting) -> int | None:
        index, closed = math.floor(time / width), self.horizon.closed(setting.policy.lateness_seconds, width)
        return None if closed is not None and index < closed else index

    def _add(self, rows: Sequence[AnsweredRow], first: int, index: int | None, setting: Setting) -> list[Finding]:
        reference = setting.reference
        cells: list[Any] = [cells_of(c, [r.features.get(c.name) for r in rows]) for c in reference.columns]
        said, broken = self._look(cells, rows, first, setting)
        for window in self.windows.values():
            if broken:
                window.mute(broken)
        if index is None:
            return said
        window = self.windows.setdefault(index, RowWindow.empty(reference))
        window.mute(broken)
        answers = [_answer(row.answer, reference, setting.positive) for row in rows]
        window.count(reference, cells, answers, [r.time for r in rows], first)
        place = str(window.first if setting.policy.window_seconds is None else index)
        for row in rows:
            row.place = place
            answered = class_index(row.answer.classes, row.answer.prediction) if row.answer.probabilities else -1
            window.expected.add(answered, row.answer.probabilities, setting.confidence)
        return said

    def _look(
        self, cells: Sequence[Any], rows: Sequence[AnsweredRow], first: int, setting: Setting
    ) -> tuple[list[Finding], set[str]]:
        """Whether the cells are sound, chunk by chunk; the columns that were broken at any time."""
        said: list[Finding] = []
        broken, at = self.quality.broken, 0
        while at < len(rows):
            until = min(at + self.quality.room, len(rows))
            part = [values[at:until] for values in cells]
            time = rows[until - 1].time
            said += self.quality.take(setting.reference, part, until - at, first + at, time, setting.version)
            broken |= self.quality.broken
            at = until
        return said, broken

    def _close_due(self, setting: Setting) -> list[Finding]:
        policy = setting.policy
        if policy.window_seconds is None:
            due = [i for i, w in self.windows.items() if w.rows >= policy.window_rows]
        else:
            closed = self.horizon.closed(policy.lateness_seconds, policy.window_seconds)
            due = sorted(i for i in self.windows if closed is not None and i < closed)
        return [finding for index in due for finding in self._close(index, setting)]

    def _close(self, index: int, setting: Setting) -> list[Finding]:
        """The verdicts on an open window, against every reference the pipeline names; the first decides."""
        window, policy = self.windows.pop(index), setting.policy
        span = replace(span_of(window), late=self.horizon.late)
        self.horizon.late = 0
        self.closed.append(Closed(str(window.first if policy.window_seconds is None else index), window, span))
        found: list[Finding] = []
        for name in policy.references:
            reference = self._reference(name, index, setting)
            for kind, tests in _tested(reference, window, setting).items():
                if name == policy.references[0]:
                    found += self._conclude(kind, name, span, tests, setting)
                else:
                    verdict = worst(tests, span.rows, policy.min_rows)
                    found.append(_evaluated(kind, name, verdict, span, tests, setting.version))
        self._remember(index, window, policy)
        return found

    def _reference(self, name: str, index: int, setting: Setting) -> Reference | None:
        if name == "training":
            return setting.reference
        if name == "validation":
            held = setting.reference.validation
            digest = f"{setting.reference.digest}:validation"
            return replace(setting.reference, digest=digest, columns=held, sample=None) if held else None
        key, season, width = "previous", setting.policy.season, setting.policy.window_seconds
        if name == "season" and season and width:
            key = f"season-{index % season}"
            known = self.history.get(key)
            if known is None or math.floor(known.start / width) != index - season:
                return None
        known = self.history.get(key)
        return known.as_reference(setting.reference, name) if known else None

    def _remember(self, index: int, window: RowWindow, policy: Policy) -> None:
        """Keep the window for later ones. While windows leave the one before, that one stays what they are compared
        with: else a lasting change would be seen once and never again."""
        data = self.standings["data"]
        leaving = data.beyond and not data.drifting and policy.references[0] == "previous"
        kept = {"previous": window} if "previous" in policy.references and not leaving else {}
        if "season" in policy.references and policy.season:
            # Without its rows, because there are many of them.
            kept[f"season-{index % policy.season}"] = replace(window, sample=Sample())
        self.history |= kept
        self.fresh |= set(kept)

    def _conclude(self, kind: Kind, name: str, span: Span, tests: list[Test], setting: Setting) -> list[Finding]:
        policy = setting.policy
        verdict, change = self.standings[kind].take(
            worst(tests, span.rows, policy.min_rows), policy.consecutive, policy.among
        )
        evaluated = _evaluated(kind, name, verdict, span, tests, setting.version)
        found: list[Finding] = [evaluated]
        beyond = tuple(test for test in evaluated.tests if test.verdict == "drift")
        if change == "detected" and beyond:
            features = tuple(dict.fromkeys(name for test in beyond for name in test.columns)) if kind == "data" else ()
            found.append(Detected(kind, setting.version, span.last, span.end, span, beyond, features))
        elif change == "resolved":
            found.append(Resolved(kind, setting.version, span, "stable"))
        return found

    def leave(self, last: int, setting: Setting | None) -> list[Finding]:
        """What is left to say when another model takes over after row ``last``: open windows, drifts and breaks end."""
        if not self.judged or setting is None:
            return []
        drifting = [kind for kind in KINDS if self.standings[kind].drifting]
        span = Span(0, 0, 0, 0.0, 0.0)
        found: list[Finding] = []
        for index in sorted(self.windows):
            span = span_of(self.windows[index])
            # Rows of a cut-off window are judged, but they change no state: the model they concern is gone.
            found += [f for f in self._close(index, setting) if isinstance(f, Evaluated)]
        ended = [Resolved(kind, setting.version, span, "new_model") for kind in drifting]
        return [*found, *ended, *self.quality.leave(last)]

    def dump(self) -> dict[str, Any]:
        """Everything but the history, as JSON values."""
        return {
            "judged": self.judged,
            "windows": {str(index): window.dump() for index, window in self.windows.items()},
            "standings": {kind: asdict(standing) for kind, standing in self.standings.items()},
            "horizon": asdict(self.horizon),
            "quality": self.quality.dump(),
        }

    @classmethod
    def load(cls, dumped: dict[str, Any], history: dict[str, RowWindow]) -> "InputWatch":
        """What ``dump`` gave, back, with the history."""
        return cls(
            dumped["judged"],
            {int(index): RowWindow.load(window) for index, window in dumped["windows"].items()},
            {kind: Standing(**dumped["standings"][kind]) for kind in KINDS},
            Horizon(**dumped["horizon"]),
            QualityWatch.load(dumped["quality"]),
            history,
        )


def span_of(window: RowWindow) -> Span:
    """Where a window lies."""
    return Span(window.rows, window.first, window.last, window.start, window.end)


def _tested(reference: Reference | None, window: RowWindow, setting: Setting) -> dict[Kind, list[Test]]:
    if reference is None:
        return {kind: [] for kind in KINDS}
    policy, calibration = setting.policy, setting.calibration
    rate, rows = policy.false_alarm_rate, policy.min_rows
    return {
        "data": test_columns(reference, window, rate=rate, min_rows=rows, calibration=calibration),
        "prediction": test_prediction(reference, window, rate=rate, min_rows=rows, calibration=calibration),
    }


def _evaluated(kind: Kind, name: str, verdict: Any, span: Span, tests: Sequence[Test], version: str) -> Evaluated:
    gravest = sorted(tests, key=lambda t: (_GRAVITY[t.verdict], t.p_value, -t.effect))[:_SHOWN]
    return Evaluated(kind, version, verdict, span, tuple(gravest), CORRECTION, reference=name)


def _answer(answer: Answer, reference: Reference, positive: int) -> Any:
    """The answer as the reference counts it: probability of the positive class, predicted class, or value."""
    if reference.prediction.kind == "numeric" and len(answer.probabilities) > positive:
        return answer.probabilities[positive]
    return answer.prediction
