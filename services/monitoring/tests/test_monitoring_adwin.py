"""ADWIN against river's, and what an alarm needs beyond it."""

import numpy as np
import pytest
from river.drift import ADWIN

from tidemill_monitoring.domain.adwin import Adwin, Bucket
from tidemill_monitoring.domain.aftermath import Aftermath
from tidemill_monitoring.domain.concept import ErrorWatch
from tidemill_monitoring.domain.findings import Detected, Resolved


def stream(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = np.concatenate([np.full(rng.integers(20, 1200), mean) for mean in rng.uniform(0, 1, 4)])
    if seed % 2:
        return (rng.uniform(size=len(means)) < means).astype(float)
    return np.clip(means + 0.1 * rng.normal(size=len(means)), 0, 1)


@pytest.mark.parametrize("seed", range(12))
def test_it_agrees_with_river_at_every_value(seed: int) -> None:
    ours, theirs = Adwin(0.05), ADWIN(delta=0.05)
    cuts = 0
    for row, value in enumerate(stream(seed)):
        cut = ours.update(value, row=row, time=float(row))
        theirs.update(value)
        assert (cut is not None) == theirs.drift_detected, row
        # Right after a cut this compares what the cut has left.
        assert ours.width == theirs.width
        assert ours.mean == pytest.approx(theirs.estimation, abs=1e-9)
        assert ours.variance == pytest.approx(theirs.variance, abs=1e-6)
        if cut:
            cuts += 1
            ours = Adwin(0.05)  # river's forgets everything at the value after an alarm
    assert cuts


def test_no_change_no_alarm() -> None:
    alarms = 0
    for seed in range(20):
        adwin = Adwin(0.05)
        errors = np.random.default_rng(seed).uniform(size=3_000) < 0.15
        alarms += any(adwin.update(float(e), row=i, time=0.0) for i, e in enumerate(errors))
    assert alarms <= 2


def test_the_change_is_placed_where_it_was() -> None:
    adwin = Adwin(0.05)
    rng = np.random.default_rng(3)
    for row in range(3_000):
        cut = adwin.update(float(rng.uniform() < (0.1 if row < 2_000 else 0.4)), row=row, time=row / 2)
        if cut:
            assert abs(cut.began_row - 2_000) <= 64
            assert cut.began_time == cut.began_row / 2
            assert cut.before == pytest.approx(0.1, abs=0.03)
            return
    raise AssertionError("the change was missed")


def test_memory_grows_with_the_logarithm_and_survives_a_dump() -> None:
    adwin = Adwin(0.05)
    rng = np.random.default_rng(0)
    values = rng.uniform(size=20_000) < 0.2
    for row, value in enumerate(values[:10_000]):
        adwin.update(float(value), row=row, time=0.0)
    other = Adwin.load(0.05, adwin.dump())
    for row, value in enumerate(values[10_000:]):
        a, b = adwin.update(float(value), row=row, time=0.0), other.update(float(value), row=row, time=0.0)
        assert a == b
    assert adwin == other
    assert sum(len(level) for level in adwin.levels) <= 6 * len(adwin.levels) <= 6 * 15
    assert sum(b.size for level in adwin.levels for b in level if isinstance(b, Bucket)) == adwin.width


def feed(watch: ErrorWatch, rate: float, rows: int, start: int, seed: int) -> list[Detected | Resolved]:
    rng = np.random.default_rng(seed)
    found = []
    for row in range(start, start + rows):
        error = float(rng.uniform() < rate)
        finding = watch.take(error, row=row, time=float(row), newest=float(row), version="a" * 12)
        if finding:
            found.append(finding)
    return found


def test_only_an_increase_is_an_alarm_and_it_is_raised_once() -> None:
    watch = ErrorWatch(Adwin(0.05), rearm_rows=5_000)
    assert feed(watch, 0.4, 1_000, 1, 0) == []
    assert feed(watch, 0.05, 1_000, 1_001, 1) == []
    found = feed(watch, 0.5, 1_500, 2_001, 2)
    assert [type(f) for f in found] == [Detected]
    alarm = found[0]
    assert isinstance(alarm, Detected)
    assert 2_001 <= alarm.noticed_row <= 2_200
    assert alarm.evidence[0].statistic > alarm.evidence[0].threshold > 0
    # The error falls back by itself: the alarm is over.
    assert [f.reason for f in feed(watch, 0.05, 2_000, 3_501, 3) if isinstance(f, Resolved)] == ["stable"]
    assert watch.alarm_row == 0


def alarmed(window: int = 500) -> ErrorWatch:
    """After an alarm that said errors rose from 0.1 to 0.25."""
    watch = ErrorWatch(Adwin(0.05), rearm_rows=window)
    watch.alarm_row, watch.calm_mean = 1, 0.1
    watch.aftermath = Aftermath(0.1, 4_000, 0.045, window)
    return watch


def test_an_alarm_is_over_when_the_errors_after_it_are_as_before() -> None:
    over = [bool(feed(alarmed(), 0.1, 1_000, 2, seed)) for seed in range(20)]
    lasting = [bool(feed(alarmed(), 0.17, 2_000, 2, seed)) for seed in range(20)]
    assert sum(over) >= 19 and sum(lasting) <= 1
    watch = alarmed()
    found = feed(watch, 0.1, 500, 2, 0)
    assert [type(f) for f in found] == [Resolved] and watch.alarm_row == 0


def test_the_rows_after_an_alarm_survive_a_dump() -> None:
    watch = alarmed()
    feed(watch, 0.1, 200, 2, 0)
    other = ErrorWatch.load(0.05, 500, watch.dump())
    assert other == watch
    assert feed(other, 0.1, 300, 202, 1) == feed(watch, 0.1, 300, 202, 1) != []
    before = {k: v for k, v in watch.dump().items() if k != "aftermath"}
    assert ErrorWatch.load(0.05, 500, before).aftermath is None


def test_it_is_raised_again_when_the_error_has_grown_again() -> None:
    watch = ErrorWatch(Adwin(0.05), rearm_rows=500)
    feed(watch, 0.05, 1_000, 1, 0)
    first = feed(watch, 0.25, 1_500, 1_001, 1)
    second = feed(watch, 0.6, 1_500, 2_501, 2)
    assert [len(first), len(second)] == [1, 1]
