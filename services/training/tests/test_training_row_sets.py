"""After a change old rows are learned from where they prove to help, and nowhere else."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from tidemill_training.domain import candidates, judging, row_sets, search
from tidemill_training.domain.evaluation import Answers, scores
from tidemill_training.domain.judging import Older, Problem
from tidemill_training.domain.model_file import to_bytes
from tidemill_training.domain.preprocessing import frame, frequent_categories

FAMILIES = tuple(candidates.DEFAULTS)
SINCE, BEFORE = 300, 1_200


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def world(rows: int, seed: int, task: str, *, turned: bool = False) -> tuple[pd.DataFrame, Any]:
    """Labels that a few hundred rows teach little of; ``turned``: the other way round."""
    rng = np.random.default_rng(seed)
    x = frame(pd.DataFrame({f"x{k}": rng.normal(size=rows) for k in range(6)}), [f"x{k}" for k in range(6)], [])
    v = x.to_numpy(np.float64)
    signal = v[:, 0] + v[:, 1] + v[:, 2] + 2 * (v[:, 3] > 0) * v[:, 4] + rng.normal(scale=0.3, size=rows)
    signal = -signal if turned else signal
    return x, (signal > 0).astype(np.int64) if task == "classification" else signal


def problem(task: str = "classification", rows: int = SINCE, validation: int = 0) -> Problem:
    x, y = world(rows + validation, 1, task)
    return Problem(
        task=task,
        metric="accuracy" if task == "classification" else "mae",
        x=x.iloc[:rows],
        y=y[:rows],
        x_validation=x.iloc[rows:],
        y_validation=y[rows:],
        numeric=6,
        categories=[],
        classes=2 if task == "classification" else 0,
        positive=1,
        seed=0,
        jobs=1,
    )


def found(p: Problem, family: str) -> search.Winner:
    return search.search(p, search.Budget((family,), 1, 100), lambda _: None)


@pytest.mark.parametrize(
    ("task", "family"), [("classification", "hist_gradient_boosting"), ("regression", "random_forest")]
)
def test_older_rows_of_the_same_world_are_learned_from(task: str, family: str) -> None:
    p, told = problem(task), []
    winner = found(p, family)
    learned, better, choice = row_sets.choose(p, winner, Older(*world(BEFORE, 2, task)), told.append)
    assert choice is not None and choice.taken in ("newest", "all", "weighted")
    taken = next(t for t in choice.tried if t.rows == choice.taken)
    assert taken.gain > row_sets.BY_CHANCE * taken.error > 0
    assert learned.older is not None and len(learned.older.y) == taken.older
    assert [t.rows for t in choice.tried] == ["since", "newest", "all", "weighted"]
    assert [t["rows"] for t in told] == ["newest", "all", "weighted"]
    # What it says of itself is what rows that nobody has seen say of it.
    x, y = world(2_000, 3, task)
    before, after = (scores(Answers(y, judging.answer(p, m, x), 1))[p.metric] for m in (winner.model, better.model))
    assert (after > before + 0.02) if task == "classification" else (after < 0.9 * before)
    assert scores(better.answers)[p.metric] == pytest.approx(after, abs=0.08 if task == "classification" else 0.2)


@pytest.mark.parametrize(("task", "family"), [("classification", "hist_gradient_boosting"), ("regression", "linear")])
def test_older_rows_of_another_world_are_left_alone(task: str, family: str) -> None:
    p = problem(task)
    winner = found(p, family)
    same, kept, choice = row_sets.choose(p, winner, Older(*world(BEFORE, 2, task, turned=True)), lambda _: None)
    assert same is p and kept is winner
    assert choice is not None and choice.taken == "since" and choice.judged_rows == SINCE
    assert all(t.gain < -3 * t.error for t in choice.tried if t.rows == "all")


def test_a_tie_keeps_the_rows_since_the_change() -> None:
    p = problem()
    winner = found(p, "linear")
    constant = Older(p.x.iloc[:1], p.y[:1], np.array([1e-12]))
    given, _ = judging.judge(row_sets.learning(p, constant), winner.family, winner.parameters)
    assert np.allclose(row_sets.losses(p, given), row_sets.losses(p, winner.answers), atol=1e-3)
    coins = Older(p.x.iloc[:2], np.array([0, 1]))
    _, kept, choice = row_sets.choose(p, winner, coins, lambda _: None)
    assert kept is winner and choice is not None and choice.taken == "since"


def test_without_older_rows_nothing_is_compared() -> None:
    p = problem()
    winner = found(p, "linear")
    assert row_sets.choose(p, winner, None, lambda _: None) == (p, winner, None)


def test_where_validation_rows_judge_they_judge_the_row_sets_too() -> None:
    p = problem(validation=300)
    winner = found(p, "hist_gradient_boosting")
    learned, better, choice = row_sets.choose(p, winner, Older(*world(BEFORE, 2, p.task)), lambda _: None)
    assert choice is not None and choice.judged_rows == 300 and choice.taken != "since"
    full = judging.fit(learned, winner.family, winner.parameters, p.x, p.y)
    assert to_bytes(better.model) == to_bytes(full)
    assert (better.answers.answer == judging.judge_model(learned, full).answer).all()


def test_the_sets_are_the_newest_all_and_all_by_age() -> None:
    x, y = world(100, 2, "regression")
    sets = row_sets.row_sets(Older(x, y), 30)
    assert {name: len(o.y) for name, o in sets.items()} == {"newest": 30, "all": 100, "weighted": 100}
    assert (sets["newest"].y == y[-30:]).all() and sets["all"].weight is None
    weight = sets["weighted"].weight
    assert weight is not None and (np.diff(weight) > 0).all() and 0.9 * 15 < weight.sum() < 15
    assert "newest" not in row_sets.row_sets(Older(x, y), 100)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_reach_every_family(task: str, family: str) -> None:
    p = problem(task)
    turned = Older(*world(SINCE, 2, task, turned=True))
    ignored = replace(turned, weight=np.full(SINCE, 1e-9))
    x, y = world(1_000, 3, task)

    def right(older: Older) -> float:
        learned = row_sets.learning(p, older)
        model = judging.fit(learned, family, candidates.DEFAULTS[family], p.x, p.y)
        given = Answers(y, judging.answer(p, model, x), 1)
        return scores(given)["accuracy"] if task == "classification" else scores(given)["r2"]

    assert right(ignored) > right(turned) + 0.15


def test_a_category_that_only_older_rows_have_is_known() -> None:
    late, early = (pd.DataFrame({"c": pd.Series(v, dtype=object)}) for v in (["a", "b"] * 20, ["old", "a"] * 20))
    y = np.array([0, 1] * 20)
    p = replace(problem(), x=late, y=y, numeric=0, categories=frequent_categories(late, 0))
    assert row_sets.learning(p, Older(early, y)).categories == [["a", "b", "old"]]
