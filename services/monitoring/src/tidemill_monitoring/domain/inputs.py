"""What arrives, against what the champion was trained on: no labels needed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.findings import Detected, Evaluated, Finding, Resolved, Span
from tidemill_monitoring.domain.measuring import Test
from tidemill_monitoring.domain.outcome import AnsweredRow
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.reference import Reference
from tidemill_monitoring.domain.verdict import CORRECTION, Standing, test_columns, test_prediction, worst
from tidemill_monitoring.domain.window import RowWindow

Kind = Literal["data", "prediction"]
KINDS: tuple[Kind, ...] = ("data", "prediction")
_SHOWN = 40
"""Tests a verdict carries at most; the gravest come first. An event must stay below 64 KiB."""
_GRAVITY = {"drift": 0, "warning": 1, "stable": 2, "insufficient_data": 3}


@dataclass(slots=True)
class InputWatch:
    """The open window of one champion, and where its two kinds of input drift stand."""

    window: RowWindow | None = None
    """None: the champion came without a reference, so nothing can be compared."""
    standings: dict[Kind, Standing] = field(default_factory=lambda: {kind: Standing() for kind in KINDS})

    @classmethod
    def over(cls, reference: Reference | None) -> "InputWatch":
        """A fresh watch for a new champion."""
        return cls(RowWindow.empty(reference) if reference else None)

    @property
    def alerts(self) -> set[str]:
        """The kinds that are in drift."""
        return {kind for kind, standing in self.standings.items() if standing.drifting}

    def take(
        self,
        rows: Sequence[AnsweredRow],
        first: int,
        *,
        version: str,
        reference: Reference | None,
        positive: int,
        policy: Policy,
        calibration: Calibration,
    ) -> list[tuple[str, Finding]]:
        """Count answered rows, the first of which has number ``first``; findings with the id of the closing row."""
        if self.window is None or reference is None:
            return []
        found: list[tuple[str, Finding]] = []
        at = 0
        while at < len(rows):
            # A new revision of the pipeline may have made windows shorter than this one already is.
            chunk = rows[at : at + max(1, policy.window_rows - self.window.rows)]
            answers = [_answer(row, reference, positive) for row in chunk]
            self.window.add(reference, [r.features for r in chunk], answers, [r.time for r in chunk], first + at)
            at += len(chunk)
            if self.window.rows >= policy.window_rows:
                found += [(chunk[-1].id, f) for f in self.close(version, reference, policy, calibration)]
        return found

    def close(self, version: str, reference: Reference, policy: Policy, calibration: Calibration) -> list[Finding]:
        """The verdicts on the open window, which becomes empty."""
        window, self.window = self.window, RowWindow.empty(reference)
        if window is None or not window.rows:
            return []
        span = span_of(window)
        common = {"rate": policy.false_alarm_rate, "min_rows": policy.min_rows}
        tests: dict[Kind, list[Test]] = {
            "data": test_columns(reference, window, calibration=calibration, **common),  # type: ignore[arg-type]
            "prediction": test_prediction(reference, window, calibration=calibration, **common),  # type: ignore[arg-type]
        }
        found: list[Finding] = []
        for kind in KINDS:
            found += self._conclude(kind, version, span, tests[kind], policy)
        return found

    def _conclude(self, kind: Kind, version: str, span: Span, tests: list[Test], policy: Policy) -> list[Finding]:
        gravest = sorted(tests, key=lambda t: (_GRAVITY[t.verdict], t.p_value, -t.effect))[:_SHOWN]
        verdict, change = self.standings[kind].take(worst(tests, span.rows, policy.min_rows), policy.consecutive)
        found: list[Finding] = [Evaluated(kind, version, verdict, span, tuple(gravest), CORRECTION)]
        beyond = tuple(test for test in gravest if test.verdict == "drift")
        if change == "detected":
            features = tuple(dict.fromkeys(test.name for test in beyond)) if kind == "data" else ()
            found.append(Detected(kind, version, span.last, span.end, span, beyond, features))
        elif change == "resolved":
            found.append(Resolved(kind, version, span, "stable"))
        return found

    def leave(
        self, version: str, reference: Reference | None, policy: Policy, calibration: Calibration
    ) -> list[Finding]:
        """What is left to say when another model takes over: the open window, and the end of its drifts."""
        if self.window is None or reference is None:
            return []
        span = span_of(self.window)
        # Rows of a cut-off window are judged, but they change no state: the model they concern is gone.
        found = [f for f in self.close(version, reference, policy, calibration) if isinstance(f, Evaluated)]
        ended = [Resolved(kind, version, span, "new_model") for kind in KINDS if self.standings[kind].drifting]
        return [*found, *ended]

    def dump(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        standings = {kind: asdict(standing) for kind, standing in self.standings.items()}
        return {"window": self.window.dump() if self.window else None, "standings": standings}

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> "InputWatch":
        """What ``dump`` gave, back."""
        window = RowWindow.load(dumped["window"]) if dumped["window"] else None
        return cls(window, {kind: Standing(**dumped["standings"][kind]) for kind in KINDS})


def span_of(window: RowWindow) -> Span:
    """Where a window lies."""
    return Span(window.rows, window.first, window.last, window.start, window.end)


def _answer(row: AnsweredRow, reference: Reference, positive: int) -> Any:
    """The answer as the reference counts it: probability of the positive class, predicted class, or value."""
    answer = row.answer
    if reference.prediction.kind == "numeric" and len(answer.probabilities) > positive:
        return answer.probabilities[positive]
    return answer.prediction
