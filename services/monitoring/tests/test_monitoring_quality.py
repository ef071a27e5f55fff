"""Broken data: each kind is named within a few dozen rows; neither quiet data nor real drift are taken for it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.findings import Broken, Detected, Finding, Mended
from tidemill_monitoring.domain.monitor import Champion, Monitor
from tidemill_monitoring.domain.outcome import Answer, AnsweredRow, LabelledRow
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.reference import Reference, ReferenceColumn, categorical_column, numeric_column
from tidemill_monitoring.domain.refusals import RefusedRow

POLICY = Policy(True, "accuracy", True, 500, 100, 0.01, 2, 0.05, 0.95)
BREAKS = (1_001, 1_300)


def draw(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    return {
        "normal": rng.normal(20, 3, rows),
        "skewed": rng.lognormal(size=rows),
        "counts": rng.poisson(2, rows).astype(float),
        "half": np.where(rng.random(rows) < 0.5, 0.0, rng.exponential(size=rows)),
    }


def reference(rng: np.random.Generator) -> Reference:
    def column(name: str, values: np.ndarray) -> ReferenceColumn:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, 21)[1:-1]))
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        limits = (float(values.min()), float(values.max()))
        run = 20 if name == "half" else 5
        return numeric_column(
            name, len(values), 0, edges.tolist(), counts.tolist(), limits, float(values.std()), 0.2, run
        )

    city = categorical_column("city", 5_000, 0, {"a": 3_000, "b": 1_500, "c": 500}, 0.2)
    answers = categorical_column("prediction", 5_000, 0, {"true": 2_500, "false": 2_500})
    columns = (*(column(n, v) for n, v in draw(rng, 5_000).items()), city)
    return Reference("digest", columns, answers, 0.9, 1_000)


def stream(seed: int, rows: int, spoil: Callable[[int, dict[str, Any]], None], flip: Any = None) -> Iterator[Any]:
    rng = np.random.default_rng(seed)
    table = draw(rng, rows)
    for n in range(1, rows + 1):
        features: dict[str, Any] = {k: float(v[n - 1]) for k, v in table.items()}
        features["city"] = str(rng.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1]))
        up = features["normal"] > 20
        spoil(n, features)
        answer = Answer(bool(up), (0.1, 0.9) if up else (0.9, 0.1), (False, True), "v" * 12, "d")
        wrong = rng.random() < (flip(n, features) if flip else 0.05)
        yield LabelledRow(AnsweredRow(f"r{n}", features, float(n), answer), bool(up) != wrong)


def play(rows: Iterator[LabelledRow], size: int = 37) -> tuple[Monitor, list[Finding]]:
    champion = Champion("v" * 12, 1, reference(np.random.default_rng(99)))
    monitor, found = Monitor.new(POLICY, Calibration()), []
    every = list(rows)
    for at in range(0, len(every), size):
        part = every[at : at + size]
        found += [f for _, f in monitor.answered([r.row for r in part], {champion.version: champion})]
        found += [f for _, f in monitor.labelled(part, 0.0)]
    return monitor, found


def breaks(found: list[Finding]) -> list[tuple[str, str]]:
    return [(f.symptom.kind, f.symptom.column) for f in found if isinstance(f, Broken)]


def between(change: Callable[[dict[str, Any]], None]) -> Callable[[int, dict[str, Any]], None]:
    return lambda n, features: change(features) if BREAKS[0] <= n <= BREAKS[1] else None


CASES: dict[str, tuple[str, str, Callable[[dict[str, Any]], None]]] = {
    "null burst": ("missing_values", "normal", lambda f: f.update(normal=None)),
    "null burst of categories": ("missing_values", "city", lambda f: f.update(city="")),
    "unit times 1000": ("unit_changed", "normal", lambda f: f.update(normal=f["normal"] * 1_000)),
    "unit over 1000": ("unit_changed", "skewed", lambda f: f.update(skewed=f["skewed"] / 1_000)),
    "counts times 60": ("unit_changed", "counts", lambda f: f.update(counts=f["counts"] * 60)),
    "stuck sensor": ("stuck_sensor", "skewed", lambda f: f.update(skewed=1.25)),
    "stuck at a common value": ("stuck_sensor", "half", lambda f: f.update(half=0.0)),
    "recoded categories": ("unknown_values", "city", lambda f: f.update(city=f["city"].upper())),
}


@pytest.mark.parametrize("case", CASES)
def test_each_break_is_named_and_no_drift(case: str) -> None:
    kind, column, change = CASES[case]
    monitor, found = play(stream(1, 2_500, between(change)))
    assert breaks(found) == [(kind, column)]
    broken = next(f for f in found if isinstance(f, Broken))
    mended = next(f for f in found if isinstance(f, Mended))
    late = 64 if kind != "stuck_sensor" else 110
    assert BREAKS[0] - 64 <= broken.first <= BREAKS[0] + (0 if kind != "stuck_sensor" else 64)
    assert BREAKS[0] <= broken.noticed_row <= BREAKS[0] + late
    assert BREAKS[1] <= mended.last <= BREAKS[1] + 64
    if broken.symptom.factor:
        assert broken.symptom.factor == pytest.approx({"counts": 60, "skewed": 0.001}.get(column, 1_000), rel=0.3)
    assert not [f for f in found if isinstance(f, Detected)]
    assert monitor.counts["labelled_doubtful"] >= 200


@pytest.mark.parametrize("seed", range(5))
def test_quiet_and_drifting_data_are_not_broken(seed: int) -> None:
    def drift(n: int, features: dict[str, Any]) -> None:
        if n > 2_000:
            features["normal"] += 9
            features["skewed"] *= 2.5
            features["city"] = "c"

    _, found = play(stream(seed, 5_000, drift))
    assert breaks(found) == []
    detected = [f for f in found if isinstance(f, Detected)]
    assert [f.kind for f in detected] == ["data"]
    assert {"normal", "skewed", "city"} <= set(detected[0].features)


@pytest.mark.parametrize("seed", range(5))
def test_a_burst_of_wrong_labels_is_no_drift(seed: int) -> None:
    def flip(n: int, _: Any) -> float:
        return 0.43 if 1_001 <= n <= 1_300 else 0.05

    monitor, found = play(stream(seed, 3_000, lambda *_: None, flip))
    assert breaks(found) == [("wrong_labels", "label")]
    broken = next(f for f in found if isinstance(f, Broken))
    assert abs(broken.first - 1_001) <= 40
    assert broken.noticed_row <= 1_200
    (mended,) = [f for f in found if isinstance(f, Mended)]
    assert mended.reason == "healthy"
    assert 1_300 <= mended.last <= 1_400
    assert not [f for f in found if isinstance(f, Detected)]
    assert monitor.held()["labels"] == [[broken.first, mended.last]]


@pytest.mark.parametrize("seed", range(5))
def test_a_change_of_concept_is_no_burst(seed: int) -> None:
    def flip(n: int, features: dict[str, Any]) -> float:
        return 0.95 if n > 1_000 and features["skewed"] > 1 else 0.05

    _, found = play(stream(seed, 2_000, lambda *_: None, flip))
    assert breaks(found) == []
    (detected,) = [f for f in found if isinstance(f, Detected) and f.kind == "concept"]
    assert detected.noticed_row <= 1_150


def test_wrong_labels_that_last_are_a_change() -> None:
    _, found = play(stream(3, 3_000, lambda *_: None, lambda n, _: 0.45 if n > 1_000 else 0.05))
    assert breaks(found) == [("wrong_labels", "label")]
    assert [f.reason for f in found if isinstance(f, Mended)] == ["lasting"]
    assert [f.kind for f in found if isinstance(f, Detected)] == ["concept"]


@pytest.mark.parametrize(("new", "kind"), [("town", "renamed_column"), (None, "missing_column")])
def test_a_renamed_column_is_told_from_a_missing_one(new: str | None, kind: str) -> None:
    monitor, _ = play(stream(4, 300, lambda *_: None))
    columns = frozenset({"normal", "skewed", "counts", "half"} | ({new} if new else set()))
    found = monitor.refused([RefusedRow("missing_feature", "city", columns)] * 40, 1.0)
    (broken,) = [f for f in found if isinstance(f, Broken)]
    assert (broken.symptom.kind, broken.symptom.column, broken.symptom.instead) == (kind, "city", new)
    assert monitor.held()["rows_from"] is None
    champion = monitor.champion
    assert champion is not None
    rows = [r.row for r in stream(5, 100, lambda *_: None)]
    mended = [f for _, f in monitor.answered(rows, {champion.version: champion}) if isinstance(f, Mended)]
    assert [(m.kind, m.column) for m in mended] == [(kind, "city")]
