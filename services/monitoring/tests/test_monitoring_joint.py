"""Joint drift: what no column shows by itself."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.findings import Detected, Evaluated, Finding
from tidemill_monitoring.domain.joint import Side, told_apart
from tidemill_monitoring.domain.measuring import Test
from tidemill_monitoring.domain.monitor import Champion, Monitor
from tidemill_monitoring.domain.outcome import Answer, AnsweredRow
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.reference import (
    Reference,
    ReferenceColumn,
    ReferenceSample,
    categorical_column,
    numeric_column,
)
from tidemill_monitoring.domain.sample import ROWS, Sample, coded
from tidemill_monitoring.domain.verdict import test_columns as judge
from tidemill_monitoring.domain.window import RowWindow

Table = dict[str, Any]
POLICY = Policy(True, "accuracy", True, 400, 100, 0.01, 2, 0.05, 0.95)


def draw(rng: np.random.Generator, rows: int, hanging: float) -> Table:
    """Two numbers that hang together, three that do not, and a category that goes with the first."""
    a, b = rng.normal(size=(2, rows))
    b = hanging * a + np.sqrt(1 - hanging**2) * b
    free = {name: rng.normal(size=rows) for name in ("c", "d", "e")}
    return {"a": a, "b": b, **free, "k": np.where(rng.random(rows) < 0.5, "x", "y").tolist()}


def column_of(name: str, values: Any) -> ReferenceColumn:
    if isinstance(values, list):
        return categorical_column(name, len(values), 0, {v: values.count(v) for v in set(values)}, 0.2)
    edges = np.quantile(values, np.linspace(0, 1, 21)[1:-1])
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=20).tolist()
    return numeric_column(name, len(values), 0, edges.tolist(), counts, (-9.0, 9.0), float(values.std()), 0.2)


def reference_of(table: Table, picked: int = 1_000) -> Reference:
    columns = tuple(column_of(name, values) for name, values in table.items())
    codes = [coded(c, values[:picked]) for c, values in zip(columns, table.values(), strict=True)]
    sample = ReferenceSample(tuple(range(len(columns))), np.column_stack(codes))
    answers = categorical_column("prediction", 4_000, 0, {"true": 2_000, "false": 2_000})
    return Reference("digest", columns, answers, 0.9, 1_000, sample=sample)


def window_of(reference: Reference, table: Table, batch: int = 100_000) -> RowWindow:
    window, rows = RowWindow.empty(reference), len(table["a"])
    for at in range(0, rows, batch):
        cells = [values[at : at + batch] for values in table.values()]
        times = [float(n) for n in range(at, at + len(cells[0]))]
        window.count(reference, cells, [True] * len(times), times, at + 1)
    return window


def joint(reference: Reference, window: RowWindow) -> list[Test]:
    tests = judge(reference, window, rate=0.01, min_rows=100, calibration=Calibration())
    return [test for test in tests if test.test == "domain_classifier"]


@pytest.mark.parametrize("rows", [100, 500, 3_000])
def test_a_correlation_that_turned_round_is_found_and_named(rows: int) -> None:
    rng = np.random.default_rng(rows)
    reference = reference_of(draw(rng, 5_000, 0.6))
    window = window_of(reference, draw(rng, rows, -0.6))
    tests = judge(reference, window, rate=0.01, min_rows=100, calibration=Calibration())
    beyond = [test for test in tests if test.verdict == "drift"]
    assert [(t.name, t.test, set(t.columns)) for t in beyond] == [("a & b", "domain_classifier", {"a", "b"})]
    assert beyond[0].statistic > beyond[0].threshold
    assert beyond[0].current_rows == min(rows, ROWS)


def test_it_becomes_a_drift_that_names_both_columns_and_a_restart_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    reference = reference_of(draw(rng, 5_000, 0.6))
    champion = Champion("v" * 12, 1, reference)
    rows = [row for hanging in (0.6, 0.6, -0.6, -0.6) for row in answered(draw(rng, 400, hanging))]
    straight, halting = play(rows, champion, 10_000), play(rows, champion, 37)
    assert straight == halting
    detected = [f for f in straight if isinstance(f, Detected) and f.kind == "data"]
    assert [f.features for f in detected] == [("a", "b")]


def answered(table: Table) -> list[AnsweredRow]:
    answer = Answer(True, (0.5, 0.5), (False, True), "v" * 12, "d")
    names = list(table)
    columns = [values.tolist() if isinstance(values, np.ndarray) else values for values in table.values()]
    return [AnsweredRow("r", dict(zip(names, cells, strict=True)), 0.0, answer) for cells in zip(*columns, strict=True)]


def play(rows: Sequence[AnsweredRow], champion: Champion, size: int) -> list[Finding]:
    monitor, found = Monitor.new(POLICY, Calibration()), []
    for at in range(0, len(rows), size):
        part = [replace(row) for row in rows[at : at + size]]
        found += [f for _, f in monitor.answered(part, {champion.version: champion}, 1e9)]
        dumped = json.loads(json.dumps(monitor.dump()))
        monitor = Monitor.load(POLICY, monitor.calibration, dumped, champion.reference, [])
    return [f for f in found if not (isinstance(f, Evaluated) and f.kind != "data")]


@pytest.mark.parametrize("rows", [100, 1_000])
def test_without_drift_it_holds_its_rate(rows: int) -> None:
    rng = np.random.default_rng(rows)
    p_values = []
    for _ in range(40):
        reference = reference_of(draw(rng, 2_000, 0.6))
        p_values += [joint(reference, window_of(reference, draw(rng, rows, 0.6)))[0].p_value for _ in range(5)]
    assert 0.02 <= float(np.mean(np.array(p_values) < 0.05)) <= 0.1
    assert min(p_values) > 1e-5


def test_a_shift_of_single_columns_is_left_to_their_own_tests() -> None:
    rng = np.random.default_rng(1)
    reference = reference_of(draw(rng, 5_000, 0.6))
    table = draw(rng, 1_000, 0.6)
    table["a"], table["c"] = table["a"] * 2 + 3, np.exp(table["c"])
    tests = judge(reference, window_of(reference, table), rate=0.01, min_rows=100, calibration=Calibration())
    assert {t.name for t in tests if t.verdict == "drift"} == {"a", "c"}
    assert [t.verdict for t in tests if t.test == "domain_classifier"] == ["stable"]


def test_columns_that_do_not_matter_or_are_broken_are_left_out() -> None:
    rng = np.random.default_rng(2)
    reference = reference_of(draw(rng, 5_000, 0.6))
    window = window_of(reference, draw(rng, 1_000, -0.6))
    idle = tuple(replace(c, importance=0.001) if c.name == "b" else c for c in reference.columns)
    assert [t.verdict for t in joint(replace(reference, columns=idle), window)] == ["stable"]
    assert [t.verdict for t in joint(reference, window)] == ["drift"]
    window.mute(["a"])
    assert [t.verdict for t in joint(reference, window)] == ["stable"]
    assert joint(replace(reference, sample=None), window) == []


def test_cells_that_are_missing_new_or_all_the_same_are_no_difference() -> None:
    rng = np.random.default_rng(3)
    table = draw(rng, 2_000, 0.6)
    table["d"], table["k"] = np.full(2_000, 7.0), ["x"] * 2_000
    reference = reference_of(table)
    now = draw(rng, 800, 0.6)
    now["d"], now["k"] = np.full(800, np.nan), ["new", None] * 400
    assert [t.verdict for t in joint(reference, window_of(reference, now))] == ["stable"]
    alone = [column_of("d", np.full(50, 7.0)), column_of("k", ["x"] * 50)]
    side = Side(np.zeros((50, 2), np.uint8), [c.counts for c in alone])
    assert told_apart(alone, side, side) is None


def test_every_row_of_a_window_is_as_likely_to_be_kept() -> None:
    edges = [float(n) for n in range(1, 100)]
    column = numeric_column("a", 100, 0, edges, [1] * 100)
    reference = Reference("d", (column,), column, 0.9, 100, sample=ReferenceSample((0,), np.zeros((1, 1), np.uint8)))
    values = np.arange(100_000) / 1_000
    whole, parts = Sample(), Sample()
    whole.add(reference, [values], len(values))
    for at in range(0, len(values), 777):
        parts.add(reference, [values[at : at + 777]], len(values[at : at + 777]))
        parts = Sample.load(json.loads(json.dumps(parts.dump())))
    assert whole == parts
    found = whole.codes[:, 0]
    assert len(found) == ROWS
    assert abs(float(found.mean()) - 49.5) < 5
    assert np.bincount(found // 10, minlength=10).min() > 25


def test_merged_samples_hold_of_each_window_as_much_as_it_has_rows() -> None:
    one, other = Sample(3_000, [b"a"] * ROWS), Sample(1_000, [b"b"] * ROWS)
    one.merge(other)
    assert (one.seen, one.rows.count(b"a"), one.rows.count(b"b")) == (4_000, 375, 125)
