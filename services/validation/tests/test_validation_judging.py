"""A judgement as a whole, on packages whose quality is known."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tidemill_validation.domain import gate, slices
from tidemill_validation.judging import judge

Build = Callable[..., Any]


def failed(judged: Any) -> set[str]:
    return {c.code for c in judged.checks if not c.passed}


def test_the_first_sound_package_passes(job: Build, models: Any) -> None:
    judged = judge(job(models.good, goals={"f1": 0.8}))
    assert judged.passed
    assert judged.promote
    assert judged.rows == 400
    assert judged.metrics["f1"] > 0.85
    assert {c.name for c in judged.checks} == {
        "rows", "finite", "repeatable", "alone", "probabilities", "latency", "batch_latency", "goal:f1",
    }  # fmt: skip


def test_a_missed_goal_is_a_refusal(job: Build, models: Any) -> None:
    judged = judge(job(models.poor, goals={"f1": 0.9}))
    assert not judged.passed
    assert failed(judged) == {"goal_f1"}


def test_a_better_challenger_replaces_the_champion(job: Build, models: Any) -> None:
    judged = judge(job(models.good, champion=models.poor))
    assert judged.promote
    assert judged.compared.low > 0
    assert judged.compared.rows == 400


def test_a_worse_challenger_does_not(job: Build, models: Any) -> None:
    judged = judge(job(models.poor, champion=models.good))
    assert judged.passed
    assert not judged.promote
    assert failed(judged) == {"worse_than_champion"}


def test_a_challenger_that_is_better_on_every_part_passes_by_parts_too(job: Build, models: Any) -> None:
    rows = models.unseen(2_000)
    judged = judge(job(models.good, champion=models.poor, rows=rows, slices=("z",)))
    assert judged.promote
    assert "none of 4 slices" in next(c.message for c in judged.checks if c.name == "slices")


def test_a_gain_on_the_whole_does_not_pay_for_a_loss_on_a_part() -> None:
    rng = np.random.default_rng(0)
    kinds = np.array(["a"] * 900 + ["b"] * 100 + ["c"] * 30)
    champion = (rng.uniform(size=1_030) < 0.3).astype(float)
    challenger = np.where(kinds == "b", rng.uniform(size=1_030) < 0.8, rng.uniform(size=1_030) < 0.05).astype(float)
    assert challenger.mean() < champion.mean()
    found = slices.slices({"kind": kinds, "size": np.r_[np.arange(1_000.0), np.full(30, np.nan)]}, 50)
    assert [s.name for s in found][:2] == ["kind = 'a'", "kind = 'b'"] and len(found) == 6
    settings: dict[str, Any] = {"resamples": 1_000, "confidence": 0.95, "seed": 0}
    worst = slices.worst(found[:2], champion, challenger, 0.1, **settings)
    assert worst is not None and worst[0] == "kind = 'b'" and worst[1] < -0.3
    assert not gate.slices(worst, 2).passed
    assert slices.worst(found[:1], champion, challenger, 0.1, **settings) is None
    assert slices.worst(found, champion, champion, 0.1, **settings) is None


def test_costs_decide_where_they_are_stated(job: Build, models: Any) -> None:
    """One that says yes too often is worse by accuracy and better where a missed yes costs ten times as much."""
    exact, eager = models.logistic(4.0, 0.0), models.logistic(4.0, 0.0, bias=2.0)
    rows = models.unseen(2_000)
    assert failed(judge(job(eager, champion=exact, rows=rows, metric="accuracy"))) == {"worse_than_champion"}
    stated = ((0.0, 1.0), (10.0, 0.0))
    assert judge(job(eager, champion=exact, rows=rows, metric="accuracy", costs=stated)).promote
    assert failed(judge(job(exact, champion=exact, rows=rows, costs=stated))) == {"no_significant_gain"}


def test_the_same_model_again_does_not(job: Build, models: Any) -> None:
    judged = judge(job(models.good, champion=models.good))
    assert failed(judged) == {"no_significant_gain"}
    assert (judged.compared.low, judged.compared.high) == (0, 0)


def test_sixty_rows_after_a_change_are_enough_for_a_large_difference(job: Build, models: Any) -> None:
    rows = pa.concat_tables([models.unseen(400), models.unseen(60, flipped=True, seed=1, first=400)])
    since = rows["tidemill_time"][400].as_py()
    judged = judge(job(models.wrong, champion=models.good, rows=rows, since=since))
    assert judged.rows == 60
    assert judged.promote
    assert "only large differences" in judged.checks[0].message
    assert not judge(job(models.wrong, champion=models.good, rows=rows)).promote


def test_too_few_rows_prove_nothing(job: Build, models: Any) -> None:
    judged = judge(job(models.good, rows=models.unseen(19)))
    assert failed(judged) == {"too_few_test_rows"}
    assert not judged.passed
    assert failed(judge(replace(job(models.good), test=()))) == {"too_few_test_rows"}


def test_only_the_newest_rows_count_and_none_that_left_the_window(job: Build, models: Any) -> None:
    rows = pa.concat_tables([models.unseen(300, flipped=True), models.unseen(100, seed=1, first=300)])
    assert judge(job(models.good, rows=rows, newest_rows=100)).metrics["f1"] > 0.8
    assert judge(job(models.good, rows=rows, from_ordinal=300)).rows == 100
    assert judge(job(models.good, rows=rows)).metrics["f1"] < 0.5


def test_numbers_that_are_no_probabilities_are_refused(job: Build, models: Any) -> None:
    assert "no_probabilities" in failed(judge(job(models.logistic(4.0, 0.0, scale=0.7))))


def test_answers_that_are_no_numbers_are_refused(job: Build, models: Any) -> None:
    judged = judge(job(models.logistic(float("nan"), 0.0), champion=models.poor, goals={"f1": 0.5}))
    assert "not_finite" in failed(judged)
    assert not judged.promote


def test_bytes_that_are_no_model_are_refused(job: Build) -> None:
    assert failed(judge(job(b"not a model"))) == {"no_answers"}


def test_a_slow_package_is_refused(job: Build, models: Any) -> None:
    judged = judge(job(models.good, max_latency_ms=1e-9, max_batch_latency_ms=1e-9))
    assert failed(judged) == {"too_slow", "too_slow_in_batches"}


def test_a_champion_that_cannot_answer_protects_nobody(job: Build, models: Any) -> None:
    judged = judge(job(models.good, champion=b"not a model"))
    assert judged.promote
    assert judged.compared is None
    assert "cannot answer" in next(c.message for c in judged.checks if c.name == "better")


def test_a_champion_with_a_column_that_is_gone_is_asked_without_it(job: Build, models: Any) -> None:
    champion = models.candidate(models.poor, numeric=("x", "gone"))
    judged = judge(replace(job(models.good), champion=champion))
    assert judged.promote
    assert "no finite number" in next(c.message for c in judged.checks if c.name == "better")


def test_the_decision_threshold_is_the_packages_own(job: Build, models: Any) -> None:
    always = replace(job(models.good), challenger=models.candidate(models.good, threshold=0.0))
    assert judge(always).metrics["recall"] == 1.0


@pytest.mark.parametrize(("metric", "goal"), [("rmse", 0.1), ("mae", 0.1), ("r2", 0.9)])
def test_regressions_are_judged_too(job: Build, models: Any, metric: str, goal: float) -> None:
    facts = {"task": "regression", "target": "amount", "classes": (), "metric": metric, "goals": {metric: goal}}
    good, poor = (models.candidate(models.line(w), numeric=("x",), classes=(), positive=None) for w in (3.0, 1.5))
    built = replace(job(models.good), **facts)
    assert judge(replace(built, challenger=good, champion=poor)).promote
    assert not judge(replace(built, challenger=poor, champion=good)).passed


def test_a_judgement_is_repeatable(job: Build, models: Any) -> None:
    built = job(models.good, champion=models.poor)
    one, other = judge(built), judge(built)
    assert one.compared == other.compared
    assert one.metrics == other.metrics


def test_rows_without_a_time_are_from_before_the_change(job: Build, models: Any) -> None:
    rows = models.unseen(100)
    times = pa.array([None] * 50 + rows["tidemill_time"].to_pylist()[50:], pa.timestamp("us", "UTC"))
    rows = rows.set_column(rows.column_names.index("tidemill_time"), "tidemill_time", times)
    since = rows["tidemill_time"][60].as_py() - timedelta(seconds=1)
    assert judge(job(models.good, rows=rows, since=since)).rows == 40


def test_values_beyond_float32_are_missing(job: Build, models: Any) -> None:
    rows = models.unseen(100)
    huge = rows["x"].to_numpy().copy()
    huge[0] = 1e300
    rows = rows.set_column(0, "x", pa.array(huge))
    assert "not_finite" in failed(judge(job(models.good, rows=rows)))  # this model does not know missing values
    assert np.isfinite(judge(job(models.good)).metrics["f1"])
