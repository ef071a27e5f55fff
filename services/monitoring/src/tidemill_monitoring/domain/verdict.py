"""The verdict on a closed window: calibrated tests of every column, corrected over all of them, with an effect size."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.discovery import discovered_below
from tidemill_monitoring.domain.measuring import Measured, Test, Verdict, joint_tests, shape_tests, share_tests
from tidemill_monitoring.domain.reference import Reference
from tidemill_monitoring.domain.window import RowWindow

CORRECTION = "benjamini-hochberg"
_SHARES = 0.2
"""Part of the false-alarm rate left to tests of shares: they hardly ever raise one, because most counts are zero."""


@dataclass(slots=True)
class Standing:
    """Where a kind of drift stands from window to window."""

    beyond: int = 0
    """Windows in a row that were beyond."""
    calm: int = 0
    """Windows in a row that were not, while drifting."""
    drifting: bool = False
    latest: list[bool] = field(default_factory=list)
    """Whether each of the latest windows was beyond."""

    def take(
        self, worst: Verdict, consecutive: int, among: int | None = None
    ) -> tuple[Verdict, Literal["detected", "resolved"] | None]:
        """The verdict on a window whose worst test said ``worst``, and the change of state it makes.

        ``consecutive`` windows beyond make a drift: in a row, or among the last ``among``.
        """
        if worst == "insufficient_data":
            return worst, None
        self.latest = [*self.latest, worst == "drift"][-(among or consecutive) :]
        if worst == "drift":
            self.beyond, self.calm = self.beyond + 1, 0
            if self.drifting:
                return "drift", None
            if sum(self.latest) >= consecutive:
                self.drifting = True
                return "drift", "detected"
            return "warning", None
        self.beyond = 0
        if self.drifting:
            self.calm += 1
            if self.calm >= consecutive:
                self.drifting, self.calm, self.latest = False, 0, []
                return worst, "resolved"
            return "drift", None
        return worst, None


def test_columns(
    reference: Reference, window: RowWindow, *, rate: float, min_rows: int, calibration: Calibration
) -> list[Test]:
    """Every test of every input column; together they raise a false alarm in at most a share ``rate`` of windows."""
    pairs = list(zip(reference.columns, window.columns, strict=True))
    shapes = shape_tests(reference.digest, pairs, min_rows, calibration)
    shares = [t for c, counts in pairs for t in share_tests(c, counts, window.rows, min_rows)]
    shapes += joint_tests(reference, window, min_rows)
    tests = [*judged(shapes, (1 - _SHARES) * rate), *judged(shares, _SHARES * rate)]
    return [_muted(test) if test.name in window.muted else test for test in tests]


def test_prediction(
    reference: Reference, window: RowWindow, *, rate: float, min_rows: int, calibration: Calibration
) -> list[Test]:
    """The tests of the model's answers."""
    measured = shape_tests(reference.digest, [(reference.prediction, window.prediction)], min_rows, calibration)
    tests = judged(measured, rate)
    return [_muted(test) for test in tests] if window.muted else tests


def _muted(test: Test) -> Test:
    """Data that are known to be broken are no drift."""
    return replace(test, verdict="warning") if test.verdict == "drift" else test


def judged(tests: Sequence[Measured], rate: float) -> list[Test]:
    """Verdicts, with the false-discovery rate controlled over all tests that had enough rows."""
    cut = discovered_below([t.p_value for t in tests if t.enough], rate)
    return [test.judged(cut) for test in tests]


def worst(tests: Sequence[Test], rows: int, min_rows: int) -> Verdict:
    """The gravest verdict among the tests; without enough rows, or without a test that had enough, none."""
    verdicts = {test.verdict for test in tests}
    if rows < min_rows or verdicts <= {"insufficient_data"}:
        return "insufficient_data"
    return "drift" if "drift" in verdicts else "warning" if "warning" in verdicts else "stable"
