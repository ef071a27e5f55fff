"""The verdict on a closed window: calibrated tests of every column, corrected over all of them, with an effect size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.divergence import Measure, measured
from tidemill_monitoring.domain.proportion import increase_p_value, significant_from
from tidemill_monitoring.domain.reference import Reference, ReferenceColumn
from tidemill_monitoring.domain.window import ColumnCounts, RowWindow

Verdict = Literal["insufficient_data", "stable", "warning", "drift"]
EFFECT_FLOOR = {"psi": 0.1, "jensen_shannon": 0.1, "missing_rate": 0.05, "unseen_rate": 0.01}
"""A smaller effect is at most a warning, however significant: 0.1 is the customary "minor" PSI."""
CORRECTION = "bonferroni"
_SHARES = 0.2
"""Part of the false-alarm rate left to tests of shares: they hardly ever raise one, because most counts are zero."""


@dataclass(frozen=True, slots=True)
class Test:
    """One test of one column."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    name: str
    test: str
    statistic: float
    threshold: float
    p_value: float
    effect: float
    reference_rows: int
    current_rows: int
    verdict: Verdict


@dataclass(slots=True)
class Standing:
    """Where a kind of drift stands from window to window."""

    beyond: int = 0
    """Windows in a row that were beyond."""
    calm: int = 0
    """Windows in a row that were not, while drifting."""
    drifting: bool = False

    def take(self, worst: Verdict, consecutive: int) -> tuple[Verdict, Literal["detected", "resolved"] | None]:
        """The verdict on a window whose worst test said ``worst``, and the change of state it makes."""
        if worst == "insufficient_data":
            return worst, None
        if worst == "drift":
            self.beyond, self.calm = self.beyond + 1, 0
            if self.drifting:
                return "drift", None
            if self.beyond >= consecutive:
                self.drifting = True
                return "drift", "detected"
            return "warning", None
        self.beyond = 0
        if self.drifting:
            self.calm += 1
            if self.calm >= consecutive:
                self.drifting, self.calm = False, 0
                return worst, "resolved"
            return "drift", None
        return worst, None


def test_columns(
    reference: Reference, window: RowWindow, *, rate: float, min_rows: int, calibration: Calibration
) -> list[Test]:
    """Every test of every input column; together they raise a false alarm in a share ``rate`` of windows."""
    shapes = len(reference.columns)
    shares = shapes + sum(c.kind == "categorical" for c in reference.columns)
    shape_rate, share_rate = (1 - _SHARES) * rate / max(shapes, 1), _SHARES * rate / max(shares, 1)
    found: list[Test] = []
    for column, counts in zip(reference.columns, window.columns, strict=True):
        found.append(_shape(reference.digest, column, counts, shape_rate, min_rows, calibration))
        found.append(_share(column, "missing_rate", column.missing, counts.missing, window.rows, share_rate, min_rows))
        if column.kind == "categorical":
            unseen = _share(column, "unseen_rate", column.unlisted, counts.unseen, window.rows, share_rate, min_rows)
            found.append(unseen)
    return found


def test_prediction(
    reference: Reference, window: RowWindow, *, rate: float, min_rows: int, calibration: Calibration
) -> list[Test]:
    """The one test of the model's answers."""
    return [_shape(reference.digest, reference.prediction, window.prediction, rate, min_rows, calibration)]


def worst(tests: Sequence[Test], rows: int, min_rows: int) -> Verdict:
    """The gravest verdict among the tests; without enough rows, or without a test that had enough, none."""
    verdicts = {test.verdict for test in tests}
    if rows < min_rows or verdicts <= {"insufficient_data"}:
        return "insufficient_data"
    return "drift" if "drift" in verdicts else "warning" if "warning" in verdicts else "stable"


def _shape(
    digest: str, column: ReferenceColumn, counts: ColumnCounts, rate: float, min_rows: int, calibration: Calibration
) -> Test:
    measure: Measure = "psi" if column.kind == "numeric" else "jensen_shannon"
    current = np.asarray(counts.counts, np.float64)
    rows = int(current.sum())
    if min(rows, column.present) < min_rows or len(current) < 2:
        return Test(column.name, measure, 0.0, 0.0, 1.0, 0.0, column.present, rows, "insufficient_data")
    null = calibration.of(f"{digest}:{column.name}", measure, column.counts, rows)
    statistic = float(measured(measure, column.counts, current))
    threshold = null.threshold(rate)
    verdict = _judge(statistic > threshold, statistic, measure)
    return Test(
        column.name, measure, statistic, threshold, null.p_value(statistic), statistic, column.present, rows, verdict
    )


def _share(column: ReferenceColumn, test: str, before: int, now: int, rows: int, rate: float, min_rows: int) -> Test:
    if min(rows, column.rows) < min_rows:
        return Test(column.name, test, 0.0, 0.0, 1.0, 0.0, column.rows, rows, "insufficient_data")
    p_value = increase_p_value(before, column.rows, now, rows)
    effect = now / rows - before / column.rows
    beyond = p_value < rate
    # Searching the threshold costs a dozen tails, so a share that did not grow is spared it.
    threshold = significant_from(before, column.rows, rows, rate) if now else 1.0
    return Test(
        column.name, test, now / rows, threshold, p_value, effect, column.rows, rows, _judge(beyond, effect, test)
    )


def _judge(beyond: bool, effect: float, test: str) -> Verdict:
    if not beyond:
        return "stable"
    return "drift" if effect >= EFFECT_FLOOR[test] else "warning"
