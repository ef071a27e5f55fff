"""Verdicts on windows: calibrated, corrected, with an effect size."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill_monitoring.domain.calibration import Calibration, Draws
from tidemill_monitoring.domain.discovery import discovered_below
from tidemill_monitoring.domain.divergence import Distance, jensen_shannon, kolmogorov_smirnov, psi
from tidemill_monitoring.domain.measuring import Test, Verdict, distances_of
from tidemill_monitoring.domain.proportion import increase_p_value, significant_from
from tidemill_monitoring.domain.reference import (
    Reference,
    ReferenceColumn,
    categorical_column,
    importance_shares,
    numeric_column,
)
from tidemill_monitoring.domain.verdict import Standing, test_columns, worst
from tidemill_monitoring.domain.window import RowWindow

judge_columns = test_columns  # pytest would take the name for a test
del test_columns
counts = st.lists(st.integers(0, 5_000), min_size=2, max_size=30).map(lambda c: np.asarray(c, float))


@given(counts)
def test_a_sample_is_at_no_distance_from_itself(sample: np.ndarray) -> None:
    assert psi(sample, sample) == 0
    assert jensen_shannon(sample, sample) == 0


@given(counts, st.randoms(use_true_random=False))
def test_distances_are_symmetric_and_bounded(sample: np.ndarray, random: Any) -> None:
    other = np.asarray(random.sample(sample.tolist(), len(sample)))
    assert psi(sample, other) == pytest.approx(float(psi(other, sample)), abs=1e-12)
    assert psi(sample, other) >= 0
    assert 0 <= jensen_shannon(sample, other) <= 1


@given(st.integers(0, 50), st.integers(60, 500), st.integers(0, 60), st.integers(60, 500))
@settings(deadline=None, max_examples=60)
def test_the_exact_tail_is_the_hypergeometric_one(before: int, before_rows: int, now: int, now_rows: int) -> None:
    from scipy.stats import hypergeom

    expected = hypergeom.sf(now - 1, before_rows + now_rows, before + now, now_rows) if now else 1.0
    assert increase_p_value(before, before_rows, now, now_rows) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_the_threshold_of_a_share_is_the_first_significant_one() -> None:
    share = significant_from(5, 1_000, 500, 0.001)
    cases = round(share * 500)
    assert increase_p_value(5, 1_000, cases, 500) < 0.001 <= increase_p_value(5, 1_000, cases - 1, 500)
    # The exact and the approximate tail meet.
    assert increase_p_value(1_000, 100_000, 1_100, 100_000) == pytest.approx(0.014, abs=0.003)


def numeric_reference(name: str, values: np.ndarray, bins: int = 10) -> ReferenceColumn:
    present = values[~np.isnan(values)]
    edges = np.unique(np.quantile(present, np.linspace(0, 1, bins + 1)[1:-1]))
    binned = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
    return numeric_column(name, len(values), int(np.isnan(values).sum()), edges.tolist(), binned.tolist())


def reference_of(columns: list[ReferenceColumn]) -> Reference:
    return Reference("digest", tuple(columns), columns[0], 0.9, 1_000)


def window_of(reference: Reference, table: dict[str, list[Any]]) -> RowWindow:
    window = RowWindow.empty(reference)
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    window.add(reference, rows, [row[reference.columns[0].name] for row in rows], [0.0] * len(rows), 1)
    return window


def verdict_of(
    reference: Reference, table: dict[str, list[Any]], calibration: Calibration
) -> tuple[Verdict, list[Test]]:
    window = window_of(reference, table)
    tests = judge_columns(reference, window, rate=0.01, min_rows=100, calibration=calibration)
    return worst(tests, window.rows, 100), tests


def sample(rng: np.random.Generator, rows: int) -> dict[str, list[Any]]:
    """Ten quiet columns: normal, heavy-tailed, tied, missing, categorical."""
    table: dict[str, list[Any]] = {f"normal-{i}": rng.normal(size=rows).tolist() for i in range(4)}
    table |= {f"heavy-{i}": rng.standard_t(2, size=rows).tolist() for i in range(2)}
    table |= {f"tied-{i}": rng.poisson(2, size=rows).astype(float).tolist() for i in range(2)}
    gaps = rng.normal(size=rows)
    table["gaps"] = [None if u < 0.1 else float(v) for u, v in zip(rng.uniform(size=rows), gaps, strict=True)]
    table["city"] = rng.choice(["a", "b", "c", "d", "e"], p=[0.5, 0.3, 0.15, 0.04, 0.01], size=rows).tolist()
    return table


def reference_from(table: dict[str, list[Any]]) -> Reference:
    columns = []
    for name, values in table.items():
        if name == "city":
            columns.append(categorical_column(name, len(values), 0, {c: values.count(c) for c in set(values)}))
        else:
            columns.append(numeric_reference(name, np.array([np.nan if v is None else v for v in values])))
    return reference_of(columns)


@pytest.mark.parametrize("rows", [100, 500, 2_000])
def test_quiet_windows_alarm_as_seldom_as_was_asked(rows: int) -> None:
    """One window in a hundred at most counts as beyond chance, over ten columns together, whatever the size."""
    rng = np.random.default_rng(rows)
    beyond = windows = 0
    for _ in range(10):
        reference = reference_from(sample(rng, 2_000))
        calibration = Calibration()
        for _ in range(20):
            _, tests = verdict_of(reference, sample(rng, rows), calibration)
            beyond += any(test.verdict in ("drift", "warning") for test in tests)
            windows += 1
    assert beyond / windows <= 0.03


@pytest.mark.parametrize("bins", [2, 10, 30])
def test_one_columns_thresholds_hold_their_rate(bins: int) -> None:
    rng = np.random.default_rng(bins)
    shares = rng.dirichlet(np.full(bins, 3.0))
    edges = np.sort(rng.normal(size=bins - 1)).tolist()
    column = numeric_column("x", 1, 0, edges, [0] * bins, (-4.0, 4.0), 1.0)
    distances: dict[Any, Distance] = {**distances_of(column), **distances_of(categorical_column("c", 1, 0, {"a": 1}))}
    assert len(distances) == 5
    alarms = dict.fromkeys(distances, 0)
    for _ in range(60):
        reference = rng.multinomial(1_500, shares).astype(float)
        draws = Draws(reference, 400)
        nulls = {name: draws.null(name, distance) for name, distance in distances.items()}
        windows = rng.multinomial(400, shares, size=50).astype(float)
        for name, distance in distances.items():
            far = distance(np.broadcast_to(reference, windows.shape), windows) > nulls[name].threshold(0.05)
            alarms[name] += int(far.sum())
    assert all(0.025 <= count / 3_000 <= 0.1 for count in alarms.values()), alarms


def test_the_distances_of_a_known_shift() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=20_000)
    edges = np.quantile(values, np.linspace(0, 1, 41)[1:-1])
    before, after = (
        np.bincount(np.searchsorted(edges, v, side="right"), minlength=40).astype(float) for v in (values, values + 0.5)
    )
    column = numeric_column("x", 20_000, 0, edges.tolist(), before.tolist(), (values.min(), values.max()), 1.0)
    assert kolmogorov_smirnov(before, after) == pytest.approx(0.197, abs=0.01)  # 2 Phi(0.25) - 1
    assert distances_of(column)["wasserstein"](before, after) == pytest.approx(0.5, abs=0.05)


def test_discoveries_are_those_of_benjamini_and_hochberg() -> None:
    from scipy.stats import false_discovery_control

    rng = np.random.default_rng(1)
    for _ in range(50):
        p_values = rng.random(30) ** rng.choice([1, 4], size=30)
        cut = discovered_below(p_values.tolist(), 0.1)
        assert ((p_values <= cut) == (false_discovery_control(p_values) <= 0.1)).all()


def test_drift_of_a_column_the_model_ignores_is_a_warning() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=2_000)
    edges = np.quantile(values, np.linspace(0, 1, 11)[1:-1])
    counts = np.bincount(np.searchsorted(edges, values, side="right")).tolist()
    table = {"x": (rng.normal(size=500) + 1).tolist()}
    for importance, expected in ((0.0, "warning"), (0.6, "drift"), (None, "drift")):
        column = numeric_column("x", 2_000, 0, edges.tolist(), counts, None, 1.0, importance)
        verdict, tests = verdict_of(reference_of([column]), table, Calibration())
        assert verdict == expected
        assert (tests[0].severity or 0.0) == (tests[0].effect * 10 * 0.6 if importance else 0.0)


def test_importance_is_what_is_left_after_chance() -> None:
    found = {"a": (0.20, 0.02), "b": (0.192, 0.016), "idle": (0.008, 0.007), "worse": (-0.01, 0.002)}
    shares = importance_shares(found)
    assert shares == pytest.approx({"a": 0.4, "b": 0.4, "idle": 0.0, "worse": 0.0})
    assert importance_shares({"a": (0.02, 0.02), "b": (0.0, 0.0)}) == {} == importance_shares({})
    assert importance_shares({"a": (0.3, 0.0), "b": (0.1, 0.0)}) == pytest.approx({"a": 0.75, "b": 0.25})


def test_values_beyond_the_range_are_named() -> None:
    rng = np.random.default_rng(7)
    values = rng.uniform(size=2_000)
    edges = np.quantile(values, np.linspace(0, 1, 11)[1:-1])
    counts = np.bincount(np.searchsorted(edges, values, side="right")).tolist()
    reference = reference_of([numeric_column("x", 2_000, 0, edges.tolist(), counts, (values.min(), values.max()))])
    quiet = {"x": rng.uniform(size=500).tolist()}
    assert verdict_of(reference, quiet, Calibration())[0] == "stable"
    quiet["x"][:15] = [9.0] * 15
    _, tests = verdict_of(reference, quiet, Calibration())
    assert [t.test for t in tests if t.verdict == "drift"] == ["range_rate"]


def test_a_real_shift_is_drift_and_names_its_column() -> None:
    rng = np.random.default_rng(1)
    reference = reference_from(sample(rng, 2_000))
    table = sample(rng, 500)
    table["normal-2"] = [v + 0.7 for v in table["normal-2"]]
    verdict, tests = verdict_of(reference, table, Calibration())
    assert verdict == "drift"
    assert {t.name for t in tests if t.verdict != "stable"} == {"normal-2"}
    shifted = next(t for t in tests if t.test == "psi" and t.verdict == "drift")
    assert shifted.statistic > shifted.threshold
    assert shifted.p_value < 1e-6


def test_a_significant_but_tiny_shift_is_a_warning() -> None:
    rng = np.random.default_rng(2)
    reference = reference_from({"x": rng.normal(size=50_000).tolist()})
    verdict, tests = verdict_of(reference, {"x": (rng.normal(size=20_000) + 0.08).tolist()}, Calibration())
    assert verdict == "warning"
    assert tests[0].p_value < 1e-4


def test_missing_cells_and_unseen_categories_are_named() -> None:
    rng = np.random.default_rng(3)
    reference = reference_from(sample(rng, 2_000))
    table = sample(rng, 500)
    table["normal-0"][:60] = [None] * 60
    table["city"][:40] = ["nowhere"] * 40
    verdict, tests = verdict_of(reference, table, Calibration())
    assert verdict == "drift"
    assert {(t.name, t.test) for t in tests if t.verdict == "drift"} == {
        ("normal-0", "missing_rate"),
        ("city", "unseen_rate"),
    }


def test_few_rows_are_no_verdict() -> None:
    rng = np.random.default_rng(4)
    reference = reference_from(sample(rng, 2_000))
    verdict, _ = verdict_of(reference, {k: [5.0 if k != "city" else "z"] * 50 for k in sample(rng, 1)}, Calibration())
    assert verdict == "insufficient_data"


def test_a_state_changes_after_windows_in_a_row() -> None:
    standing = Standing()
    said = [standing.take(v, 2) for v in ("drift", "stable", "drift", "drift", "drift", "stable", "warning", "stable")]
    assert said == [
        ("warning", None),
        ("stable", None),
        ("warning", None),
        ("drift", "detected"),
        ("drift", None),
        ("drift", None),
        ("warning", "resolved"),
        ("stable", None),
    ]
    assert standing.take("insufficient_data", 2) == ("insufficient_data", None)


def test_a_window_counts_whatever_the_chunks() -> None:
    rng = np.random.default_rng(5)
    reference = reference_from(sample(rng, 1_000))
    table = sample(rng, 300)
    whole = window_of(reference, table)
    parts = RowWindow.empty(reference)
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    for at in range(0, 300, 77):
        part = rows[at : at + 77]
        parts.add(reference, part, [r["normal-0"] for r in part], [0.0] * len(part), at + 1)
        parts = RowWindow.load(parts.dump())
    assert parts == whole
