"""Windows by time, late rows, references other than training, and merging: nothing depends on batches or restarts."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.findings import Detected, Evaluated, Finding
from tidemill_monitoring.domain.monitor import Champion, Monitor
from tidemill_monitoring.domain.outcome import Answer, AnsweredRow
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.reference import Reference, ReferenceColumn, categorical_column, numeric_column
from tidemill_monitoring.domain.window import RowWindow

HOUR = 3_600.0


def policy(**changes: Any) -> Policy:
    common: dict[str, Any] = {
        "classification": True,
        "metric": "accuracy",
        "positive": True,
        "window_rows": 200,
        "min_rows": 50,
        "false_alarm_rate": 0.01,
        "consecutive": 2,
        "error_delta": 0.05,
        "recovered_share": 0.95,
    }
    return Policy(**common | changes)


def champion(seed: int = 0, held: float | None = None, range_: float = 9.0) -> Champion:
    """Trained on x of mean 0 within ``range_``; ``held``: the mean of 400 rows that it has not seen."""
    values = np.random.default_rng(seed).normal(size=4_000).clip(-range_, range_)
    edges = np.quantile(values, np.linspace(0, 1, 21)[1:-1])
    column = counted(values, edges, (-range_, range_))
    answers = categorical_column("prediction", 4_000, 0, {"true": 2_000, "false": 2_000})
    reference = Reference("digest", (column,), answers, 0.9, 1_000)
    if held is not None:
        unseen = np.random.default_rng(seed + 3).normal(held, size=400)
        limits, outside = (float(unseen.min()), float(unseen.max())), int((np.abs(unseen) > range_).sum())
        reference = replace(reference, validation=(counted(unseen, edges, limits, outside),))
    return Champion("v" * 12, 1, reference)


def counted(values: Any, edges: Any, limits: tuple[float, float], outside: int | None = None) -> ReferenceColumn:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=20).tolist()
    return numeric_column("x", len(values), 0, edges.tolist(), counts, limits, 1.0, 1.0, outside=outside)


def row(number: int, time: float, x: float) -> AnsweredRow:
    answer = Answer(number % 2 == 0, (0.5, 0.5), (False, True), "v" * 12, "d")
    return AnsweredRow(f"r{number}", {"x": x}, time, answer)


def restart(monitor: Monitor) -> Monitor:
    dumped = json.loads(json.dumps(monitor.dump()))
    history = {key: RowWindow.load(json.loads(json.dumps(w.dump()))) for key, w in monitor.inputs.history.items()}
    reference = monitor.champion.reference if monitor.champion else None
    return Monitor.load(monitor.policy, monitor.calibration, dumped, reference, [], [], history)


def play(
    rows: Sequence[AnsweredRow],
    how: Policy,
    size: int = 1_000_000,
    *,
    again: bool = False,
    best: Champion | None = None,
) -> tuple[Monitor, list[Finding]]:
    best = best or champion()
    monitor, found = Monitor.new(how, Calibration()), []
    for at in range(0, len(rows), size):
        part = rows[at : at + size]
        found += [f for _, f in monitor.answered(part, {best.version: best}, 1e9)]
        monitor = restart(monitor) if again else monitor
    return monitor, [f for f in found if not (isinstance(f, Evaluated) and f.kind != "data")]


def hourly(hours: int, shift: Any, seed: int = 1, each: int = 100) -> list[AnsweredRow]:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, hours * HOUR, hours * each))
    return [row(n, float(t), float(rng.normal() + shift(t / HOUR))) for n, t in enumerate(times, 1)]


BY_HOUR: dict[str, Any] = {"window_seconds": HOUR, "lateness_seconds": HOUR / 4}


def test_windows_by_time_hold_the_rows_of_their_time() -> None:
    rows = hourly(6, lambda _: 0.0)
    rng = np.random.default_rng(2)
    shuffled = sorted(rows, key=lambda r: r.time + rng.uniform(0, HOUR / 4))  # out of order, never late
    _, found = play(shuffled, policy(**BY_HOUR))
    spans = [f.span for f in found if isinstance(f, Evaluated)]
    assert [int(s.start // HOUR) for s in spans] == [0, 1, 2, 3, 4][: len(spans)]
    assert len(spans) >= 4
    for span in spans:
        assert span.rows == sum(int(r.time // HOUR) == int(span.start // HOUR) for r in rows)
        assert span.late == 0


def test_late_rows_are_counted_and_change_no_closed_window() -> None:
    rows = hourly(4, lambda _: 0.0)
    late = [row(10_000 + n, 60.0 * n, 0.0) for n in range(30)]
    monitor, found = play([*rows[:250], *late, *rows[250:]], policy(**BY_HOUR))
    verdicts = [f for f in found if isinstance(f, Evaluated)]
    assert verdicts[0].span.rows == sum(r.time < HOUR for r in rows)
    assert sum(f.span.late for f in verdicts) + monitor.inputs.horizon.late == 30
    assert monitor.counts["answered"] == 430
    # Windows by count hold them, and count them all the same.
    _, found = play([*rows[:250], *late, *rows[250:]], policy(lateness_seconds=HOUR / 4))
    assert sum(f.span.rows for f in found if isinstance(f, Evaluated)) == 400
    assert sum(f.span.late for f in found if isinstance(f, Evaluated)) == 30


def test_a_row_from_the_future_moves_nothing() -> None:
    rows = hourly(3, lambda _: 0.0)
    monitor, found = play([*rows[:150], row(9_999, 4e9, 0.0), *rows[150:]], policy(**BY_HOUR))
    _, without = play(rows, policy(**BY_HOUR))
    verdicts = [[f.span.rows for f in every if isinstance(f, Evaluated)] for every in (found, without)]
    assert verdicts[0] == verdicts[1] != []
    assert monitor.counts["ahead"] == 1


@pytest.mark.parametrize("how", [policy(), policy(**BY_HOUR), policy(references=("previous", "training"), **BY_HOUR)])
def test_neither_batches_nor_restarts_matter(how: Policy) -> None:
    rows = hourly(8, lambda hour: 0.6 * (hour > 4))
    _, whole = play(rows, how)
    _, parts = play(rows, how, 53, again=True)
    assert whole == parts
    assert whole


def test_a_daily_cycle_is_drift_from_training_and_none_from_the_same_season() -> None:
    rows = hourly(72, lambda hour: np.sin(hour / 24 * 2 * np.pi), each=150)
    season: dict[str, Any] = {"season_seconds": 24 * HOUR, **BY_HOUR}
    _, plain = play(rows, policy(**BY_HOUR))
    assert any(isinstance(f, Detected) for f in plain)
    _, found = play(rows, policy(references=("season", "training"), **season))
    assert not any(isinstance(f, Detected) for f in found)
    said = [f.verdict for f in found if isinstance(f, Evaluated) and f.reference == "season"]
    assert set(said[:24]) == {"insufficient_data"}
    assert said[24:].count("stable") >= 0.9 * len(said[24:]) > 20
    beside = [f.verdict for f in found if isinstance(f, Evaluated) and f.reference == "training"]
    assert "drift" in beside


def test_the_validation_rows_decide_where_they_come_first() -> None:
    """Those the model has not seen are the newer ones, and may lie elsewhere than those it was trained on."""
    rows = hourly(12, lambda hour: 1.0 if hour < 8 else 2.0, each=200)
    best = champion(held=1.0, range_=2.0)
    _, found = play(rows, policy(references=("validation", "training")), best=best)
    said: dict[str, list[Evaluated]] = {"validation": [], "training": []}
    for finding in found:
        if isinstance(finding, Evaluated):
            said[finding.reference].append(finding)
    assert [f.verdict for f in said["validation"]][:8] == ["stable"] * 8
    assert "drift" in {f.verdict for f in said["training"]} <= {"drift", "warning"}
    assert {test.reference_rows for f in said["validation"] for test in f.tests} == {400}
    assert not any(test.test == "domain_classifier" for f in said["validation"] for test in f.tests)
    detected = [f for f in found if isinstance(f, Detected)]
    assert [f.span.first for f in detected] == [1_801], "the second window after the change at row 1 601"
    _, other = play(rows, policy(references=("training", "validation")), best=best)
    assert [f.span.first for f in other if isinstance(f, Detected)] == [201]


def test_without_validation_rows_nothing_is_said_against_them() -> None:
    _, found = play(hourly(4, lambda _: 3.0, each=200), policy(references=("validation",)), best=champion())
    assert {f.verdict for f in found if isinstance(f, Evaluated)} == {"insufficient_data"}
    assert not any(isinstance(f, Detected) for f in found)


def test_values_beyond_the_training_range_are_no_news_where_they_were_there_before() -> None:
    rows = hourly(72, lambda hour: 3 * np.sin(hour / 24 * 2 * np.pi), each=150)
    season: dict[str, Any] = {"season_seconds": 24 * HOUR, **BY_HOUR}
    _, found = play(rows, policy(references=("season",), **season), best=champion(range_=2.0))
    assert not any(isinstance(f, Detected) for f in found)
    verdicts = [f.verdict for f in found if isinstance(f, Evaluated)][24:]
    assert verdicts.count("stable") >= 0.9 * len(verdicts) > 20


def test_a_lasting_change_leaves_the_window_before_once() -> None:
    rows = hourly(16, lambda hour: 1.0 * (hour > 8))
    _, found = play(rows, policy(references=("previous",), **BY_HOUR))
    detected = [f for f in found if isinstance(f, Detected)]
    assert len(detected) == 1
    assert 8 <= detected[0].span.start / HOUR <= 11


def test_k_of_n_windows() -> None:
    rows = hourly(24, lambda hour: 0.9 * (int(hour) % 2))
    _, strict = play(rows, policy(**BY_HOUR))
    _, loose = play(rows, policy(among=4, **BY_HOUR))
    assert not [f for f in strict if isinstance(f, Detected)]
    assert [f for f in loose if isinstance(f, Detected)]


def test_merged_windows_are_one_window() -> None:
    reference = champion().reference
    assert reference is not None
    rng = np.random.default_rng(4)
    values = rng.normal(size=600).tolist()
    rows = [{"x": v} for v in values]
    whole, parts = RowWindow.empty(reference), [RowWindow.empty(reference) for _ in range(3)]
    answers, times = [True] * 600, [float(n) for n in range(600)]
    whole.add(reference, rows, answers, times, 1)
    for at, part in zip((200, 0, 400), parts, strict=True):
        part.add(reference, rows[at : at + 200], answers[:200], times[at : at + 200], at + 1)
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0] == whole
