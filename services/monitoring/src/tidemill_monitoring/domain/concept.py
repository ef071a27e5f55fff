"""The alarm on errors: ADWIN over the champion's labelled rows, of which only an increase is an alarm."""

from dataclasses import dataclass
from typing import Any

from tidemill_monitoring.domain.adwin import Adwin, Cut
from tidemill_monitoring.domain.aftermath import Aftermath
from tidemill_monitoring.domain.findings import Detected, Resolved, Span
from tidemill_monitoring.domain.measuring import Test


@dataclass(slots=True)
class ErrorWatch:
    """One model's errors. A new model starts with an empty window and no alarm.

    Nothing is taken over from the model's own validation: that score is optimistic, because the model was chosen by
    it, and a window seeded with it would raise false alarms. A model that is bad from its first row on is found by
    the best-ever baseline instead.
    """

    adwin: Adwin
    rearm_rows: int
    """An alarm may be repeated only after so many further labelled rows, against the error they had."""
    alarm_row: int = 0
    """0: no alarm."""
    calm_mean: float = 0.0
    """Mean error before the first alarm."""
    known_mean: float | None = None
    """Mean error the last alarm has led to; None until ``rearm_rows`` have shown it."""
    aftermath: Aftermath | None = None
    """The errors since the last alarm."""
    spare: float = 0.05
    """A loss of this share of what was right before counts as recovered."""

    def take(self, error: float, *, row: int, time: float, newest: float, version: str) -> Detected | Resolved | None:
        """Take the error (0 to 1) of labelled row ``row``; ``newest`` is the latest event time labelled so far."""
        cut = self.adwin.update(error, row=row, time=time)
        if self.alarm_row and self.known_mean is None and row - self.alarm_row >= self.rearm_rows:
            self.known_mean = self.adwin.mean
        if cut is None:
            return self._passed(error, row, time, newest, version)
        if not cut.worse:
            return self._better(cut, row, newest, version)
        if self.alarm_row and (self.known_mean is None or cut.after <= self.known_mean + cut.epsilon):
            return None  # still the change that is known
        if not self.alarm_row:
            self.calm_mean = cut.before
        self.alarm_row, self.known_mean = row, None
        self.aftermath = Aftermath(self.calm_mean, cut.rows_before, self._bound(cut), self.rearm_rows)
        evidence = Test(
            "error",
            "adwin",
            cut.after - cut.before,
            cut.epsilon,
            self.adwin.delta,
            cut.after,
            cut.rows_before,
            cut.rows_after,
            "drift",
        )
        span = Span(row - cut.began_row + 1, cut.began_row, row, cut.began_time, newest)
        return Detected(
            "concept",
            version,
            row,
            newest,
            span,
            (evidence,),
            began_row=cut.began_row,
            began_at=cut.began_time,
            course=cut.course,
        )

    def _better(self, cut: Cut, row: int, newest: float, version: str) -> Resolved | None:
        if not self.alarm_row or cut.after > self.calm_mean + cut.epsilon:
            return None
        span = Span(row - cut.began_row + 1, cut.began_row, row, cut.began_time, newest)
        return self._resolved(version, span)

    def _bound(self, cut: Cut) -> float:
        # Alarms come at the worst moment: what they say of the rise is too much, most of all of a small one.
        return min((cut.after - self.calm_mean) / 2, self.spare * (1 - self.calm_mean))

    def _passed(self, error: float, row: int, time: float, newest: float, version: str) -> Resolved | None:
        """ADWIN sees no cut; too small a rise may have gone without one."""
        if self.aftermath is None or not self.aftermath.take(error):
            return None
        return self._resolved(version, Span(row - self.alarm_row, self.alarm_row + 1, row, time, newest))

    def _resolved(self, version: str, span: Span) -> Resolved:
        self.alarm_row, self.known_mean, self.aftermath = 0, None, None
        return Resolved("concept", version, span, "stable")

    def dump(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        means = [self.calm_mean, self.known_mean]
        aftermath = self.aftermath.dump() if self.aftermath else None
        return {"adwin": self.adwin.dump(), "alarm_row": self.alarm_row, "means": means, "aftermath": aftermath}

    @classmethod
    def load(cls, delta: float, rearm_rows: int, dumped: dict[str, Any], spare: float = 0.05) -> "ErrorWatch":
        """What ``dump`` gave, back."""
        since = dumped.get("aftermath")
        calm, known = dumped["means"]
        aftermath = Aftermath.load(since) if since else None
        return cls(Adwin.load(delta, dumped["adwin"]), rearm_rows, dumped["alarm_row"], calm, known, aftermath, spare)
