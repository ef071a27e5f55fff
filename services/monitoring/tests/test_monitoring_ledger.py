"""Scores of windows equal the offline join; estimates without labels are near them while P(y|x) stays."""

import random

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, f1_score, log_loss

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.findings import Evaluated, Finding, Measured, Span
from tidemill_monitoring.domain.ledger import Ledger
from tidemill_monitoring.domain.monitor import Champion, Monitor
from tidemill_monitoring.domain.outcome import Answer, AnsweredRow, LabelledRow
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.reference import Reference, numeric_column
from tidemill_monitoring.domain.score import Outcome, score


def answers_of(rows: int, seed: int, low: float = 0.02) -> list[tuple[float, bool]]:
    rng = np.random.default_rng(seed)
    chances = rng.uniform(low, 1 - low, rows)
    return [(float(p), bool(rng.random() < p)) for p in chances]


def champion(metric: str = "f1", classification: bool = True) -> tuple[Champion, Policy]:
    edges = np.linspace(0.1, 0.9, 9).tolist()
    column = numeric_column("x", 1_000, 0, edges, [100] * 10, (0.0, 1.0), 0.3, 1.0)
    prediction = numeric_column("prediction", 1_000, 0, edges, [100] * 10)
    policy = Policy(classification, metric, True, 300, 50, 0.01, 2, 0.05, 0.95)
    return Champion("v" * 12, 1, Reference("digest", (column,), prediction, 0.7, 1_000)), policy


def labelled(number: int, p: float, truth: bool, at: float = 1.0) -> LabelledRow:
    answer = Answer(p >= 0.5, (1 - p, p), (False, True), "v" * 12, "d")
    return LabelledRow(AnsweredRow(f"r{number:05d}", {"x": p}, float(number), answer), truth, at)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "log_loss"])
@pytest.mark.parametrize("seed", range(3))
def test_a_matured_window_equals_the_offline_join(metric: str, seed: int) -> None:
    """Labels late, out of order, corrected (in either order of arrival), repeated; some never come."""
    best, policy = champion(metric)
    whim = random.Random(seed)  # noqa: S311 - a shuffle
    rows = [labelled(n, p, y) for n, (p, y) in enumerate(answers_of(900, seed))]
    monitor, found = Monitor.new(policy, Calibration()), []
    for at in range(0, 900, 50):
        found += monitor.answered([r.row for r in rows[at : at + 50]], {best.version: best}, 0.0)
    lost = set(whim.sample(range(600, 900), 20))
    wrong = set(whim.sample(range(900), 40)) - lost
    first = [LabelledRow(r.row, r.label if n not in wrong else not r.label, 1.0) for n, r in enumerate(rows)]
    events: list[tuple[str, LabelledRow]] = [("label", r) for n, r in enumerate(first) if n not in lost]
    whim.shuffle(events)
    measured: list[Measured] = []
    corrections = [n for n in wrong if whim.random() < 0.9]
    for at in range(0, len(events), 33):
        monitor.labelled([r for _, r in events[at : at + 33]], 10.0)
        if at + 33 >= 840:  # while every window still waits for some of its labels
            break
    for n in corrections:
        known = any(rows[n].row.id in entry.outcomes for entry in monitor.labels.ledger.entries.values())
        monitor.corrected(rows[n].row.id, rows[n].label, 2.0)
        monitor.corrected(rows[n].row.id, not rows[n].label, 1.5)  # older news
        if not known:
            corrections = [m for m in corrections if m != n]
    monitor.labelled([r for _, r in events[at + 33 :]], 11.0)
    for wall in (12.0, 12.0 + policy.label_seconds):
        measured += [f for f in monitor.matured(wall) if isinstance(f, Measured)]
    assert [m.complete for m in measured] == [True, True, False]
    fixed = set(corrections)
    for m in measured:
        window = range(m.span.first - 1, m.span.last)
        truth = [r.label if n in fixed else first[n].label for n, r in enumerate(rows) if n in window and n not in lost]
        kept = [rows[n] for n in window if n not in lost]
        outcomes = [
            Outcome(float(bool(y)), float(bool(r.row.answer.prediction)), r.row.answer.probabilities)
            for r, y in zip(kept, truth, strict=True)
        ]
        offline = score(metric, outcomes, classes=2, positive=1)
        assert offline is not None
        assert (m.labelled, m.score) == (len(kept), offline.value)
    assert sum(m.corrected for m in measured) == len(fixed)


def test_many_windows_that_wait_are_bounded() -> None:
    ledger = Ledger()
    for n in range(100):
        ledger.expect(str(n), "v", (False, True), 1, 5)
        ledger.close(str(n), Span(5, n, n, 0.0, 0.0), 0.0, None)
    assert len(ledger.mature("accuracy", 0.0, 1e9)) == 36
    assert len(ledger.entries) == 64


def test_rows_that_wait_for_the_labels_of_others_are_bounded() -> None:
    ledger = Ledger()
    for n in range(10):
        ledger.expect(str(n), "v", (False, True), 1, 100)
        for row in range(90):
            ledger.label(str(n), f"{n}-{row}", Outcome(1.0, float(row < 80)), 0.0)
        ledger.close(str(n), Span(100, n, n, 0.0, 0.0), 0.0, None)
    measured = ledger.mature("accuracy", 0.0, 1e9, 500)
    assert [(m.place, m.labelled, m.complete) for m in measured] == [(str(n), 90, False) for n in range(5)]
    assert sum(len(entry.outcomes) for entry in ledger.entries.values()) == 450
    assert ledger.mature("accuracy", 0.0, 1e9, 450) == []


@pytest.mark.parametrize("metric", ["accuracy", "f1", "log_loss", "brier"])
def test_confidence_estimates_the_score(metric: str) -> None:
    best, policy = champion(metric)
    monitor = Monitor.new(policy, Calibration())
    rows = [labelled(n, p, y) for n, (p, y) in enumerate([*answers_of(600, 1), *answers_of(300, 2, low=0.3)])]
    estimates = []
    for at in range(0, 900, 300):
        found = monitor.answered([r.row for r in rows[at : at + 300]], {best.version: best}, 0.0)
        estimates += [f.estimated for _, f in found if isinstance(f, Evaluated) and f.kind == "data"]
        monitor.labelled(rows[at : at + 300], 0.0)
    for number, estimate in enumerate(estimates):
        part = rows[number * 300 : number * 300 + 300]
        truth = [bool(r.label) for r in part]
        chances = [r.row.answer.probabilities[1] for r in part]
        claimed = [p >= 0.5 for p in chances]
        realized = {
            "accuracy": float(np.mean(np.array(truth) == np.array(claimed))),
            "f1": f1_score(truth, claimed),
            "log_loss": log_loss(truth, chances),
            "brier": brier_score_loss(truth, chances),
        }[metric]
        assert estimate is not None
        assert estimate.value == pytest.approx(realized, abs=0.06)


def test_an_overconfident_model_is_estimated_by_its_record() -> None:
    best, policy = champion("accuracy")
    monitor = Monitor.new(policy, Calibration())
    rng = np.random.default_rng(3)
    rows = [labelled(n, 0.95, bool(rng.random() < 0.7)) for n in range(900)]
    monitor.answered([r.row for r in rows[:600]], {best.version: best}, 0.0)
    monitor.labelled(rows[:600], 0.0)
    found = monitor.answered([r.row for r in rows[600:]], {best.version: best}, 0.0)
    (estimate,) = [f.estimated for _, f in found if isinstance(f, Evaluated) and f.kind == "data"]
    assert estimate is not None
    assert estimate.value == pytest.approx(0.7, abs=0.05)


def test_a_regressions_loss_is_estimated_from_its_inputs() -> None:
    """The error grows with x; then x is larger. The estimate follows, though no label of the window is in."""
    best, policy = champion("mae", classification=False)
    monitor = Monitor.new(policy, Calibration())
    rng = np.random.default_rng(5)

    def row(number: int, x: float) -> LabelledRow:
        answer = Answer(x, (), (), "v" * 12, "d")
        return LabelledRow(
            AnsweredRow(f"r{number}", {"x": x}, float(number), answer), x + float(rng.normal(0, 0.05 + x))
        )

    rows = [row(n, float(x)) for n, x in enumerate(rng.uniform(0, 1, 3_000))]
    rows += [row(3_000 + n, float(x)) for n, x in enumerate(rng.uniform(0.7, 1, 300))]
    found: list[Finding] = []
    for at in range(0, 3_300, 300):
        found += [f for _, f in monitor.answered([r.row for r in rows[at : at + 300]], {best.version: best}, 0.0)]
        monitor.labelled(rows[at : at + 300], 0.0)
    estimates = [f.estimated for f in found if isinstance(f, Evaluated) and f.kind == "data"]
    losses = [np.mean([abs(r.label - r.row.answer.prediction) for r in rows[a : a + 300]]) for a in (2_700, 3_000)]
    assert estimates[-2] is not None
    assert estimates[-1] is not None
    assert estimates[-2].value == pytest.approx(losses[0], rel=0.15)
    assert estimates[-1].value == pytest.approx(losses[1], rel=0.15)
    assert losses[1] > 1.4 * losses[0]
