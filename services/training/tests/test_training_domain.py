import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_limits

from tidemill_training.domain import candidates, judging, rows, search, threshold
from tidemill_training.domain.evaluation import Answers, calibration, confusion, scores, utility
from tidemill_training.domain.importance import Importance, permutation_importance
from tidemill_training.domain.model_file import to_bytes
from tidemill_training.domain.preprocessing import MAX_CATEGORIES, frame, frequent_categories
from tidemill_training.fitting import unusable

FAMILIES = tuple(candidates.DEFAULTS)


def problem(task: str = "classification", n: int = 240, n_validation: int = 500, seed: int = 0) -> judging.Problem:
    rng = np.random.default_rng(seed)
    total = n + n_validation
    raw = pd.DataFrame({"a": rng.normal(size=total), "b": rng.normal(size=total), "c": rng.choice(["x", "y"], total)})
    signal = raw.a + (raw.c == "x") + rng.normal(scale=0.3, size=total)
    raw.loc[::9, "a"] = np.nan
    raw.loc[::11, "c"] = None
    y = (signal > 0.5).to_numpy(np.int64) if task == "classification" else signal.to_numpy()
    x = frame(raw, ["a", "b"], ["c"])
    return judging.Problem(
        task=task,
        metric="f1" if task == "classification" else "mae",
        x=x.iloc[:n],
        y=y[:n],
        x_validation=x.iloc[n:],
        y_validation=y[n:],
        numeric=2,
        categories=frequent_categories(x.iloc[:n], 2),
        classes=2 if task == "classification" else 0,
        positive=1,
        seed=seed,
        jobs=1,
    )


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def silent(_: dict[str, Any]) -> None:
    return None


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_beats_the_dummy_and_accepts_what_it_never_saw(task: str, family: str) -> None:
    p = problem(task)
    answers, model = judging.judge(p, family, candidates.DEFAULTS[family])
    baseline = scores(judging.judge_baseline(p))
    assert utility(p.metric, scores(answers)) > utility(p.metric, baseline)
    assert model is not None
    strange = pd.DataFrame({"a": [np.nan], "b": [1e30], "c": ["never seen"]}).astype({"a": "f4", "b": "f4"})
    assert np.isfinite(judging.answer(p, model, strange)).all()


def test_the_search_is_a_function_of_its_seed_and_reports_each_trial() -> None:
    p = problem()
    told: list[dict[str, Any]] = []
    budget = search.Budget(FAMILIES, 5, 100)
    first, second = search.search(p, budget, told.append), search.search(p, budget, silent)
    assert [t["family"] for t in first.trials[:3]] == list(FAMILIES)
    strip = [{k: v for k, v in t.items() if k != "seconds"} for t in first.trials]
    assert strip == [{k: v for k, v in t.items() if k != "seconds"} for t in second.trials]
    assert to_bytes(first.model) == to_bytes(second.model)
    assert [t["trial"] for t in told] == [1, 2, 3, 4, 5]
    assert told[-1]["best"] == max(t["score"] for t in first.trials) == scores(first.answers)["f1"]


def test_the_time_budget_ends_the_search_after_at_least_one_trial() -> None:
    assert len(search.search(problem(), search.Budget(FAMILIES, 50, 1e-9), silent).trials) == 1


def test_a_small_validation_split_is_replaced_by_folds_that_do_not_see_their_rows() -> None:
    p = problem(n_validation=10)
    winner = search.search(p, search.Budget(("random_forest",), 1, 10), silent)
    assert len(winner.answers.y) == len(p.y)
    # A forest with leaves of one row knows its own rows by heart; here it must not.
    assert scores(winner.answers)["accuracy"] < 0.99
    assert scores(Answers(p.y, judging.answer(p, winner.model, p.x)))["accuracy"] > 0.99


def test_validation_rows_too_few_to_judge_by_are_learned_from() -> None:
    p = judging.pooled(problem(n_validation=50))
    assert (len(p.y), len(p.y_validation), p.judged_by_folds) == (290, 0, True)
    winner = search.search(p, search.Budget(("linear", "hist_gradient_boosting"), 2, 10), silent)
    assert len(winner.answers.y) == 290
    folds, _ = judging.judge(p, "linear", candidates.DEFAULTS["linear"])
    assert winner.trials[0]["score"] == scores(folds)["f1"]
    full = judging.fit(p, winner.family, winner.parameters, p.x, p.y)
    assert to_bytes(winner.model) == to_bytes(full)


def test_validation_rows_that_judge_are_not_learned_from() -> None:
    p = problem()
    assert judging.pooled(p) is p and not p.judged_by_folds


def test_a_class_that_has_not_come_since_a_change_is_known_from_earlier_rows(tmp_path: Path) -> None:
    labels = ["a", "b", "c", "c", "c", "c", "a", "b", "a", "b"]
    path = tmp_path / "part.parquet"
    moments = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=i) for i in range(10)]
    table = pa.table({"y": labels, rows.TIME: pa.array(moments, pa.timestamp("us", "UTC")), rows.ORDINAL: range(10)})
    pq.write_table(table, path)
    files = rows.Files((path,), 0)
    since = rows.read(files, moments[6])
    made = rows.examples(files, since, "y", ("a", "b", "c"), 2)
    assert made[rows.ORDINAL].to_pylist() == [4, 5, 6, 7, 8, 9]
    assert rows.examples(files, made, "y", ("a", "b", "c"), 2) is made


@pytest.mark.parametrize(
    ("labels", "classes", "code"),
    [
        (["a"] * 30 + ["b"] * 30 + ["c"], "abc", None),
        (["a"] * 30 + ["b"] * 30, "abc", "missing_class"),
        (["a"] * 58 + ["b"] * 2 + ["c"], "abc", "missing_class"),
        (["a"] * 58 + ["b"] * 2, "ab", "missing_class"),
        (["a"] * 60, "ab", "one_class"),
        (["a", "b"] * 9, "ab", "too_few_rows"),
    ],
)
def test_a_rare_class_among_several_is_learned_from_the_rows_there_are(
    labels: list[str], classes: str, code: str | None
) -> None:
    job: Any = SimpleNamespace(task="classification", target="y", classes=tuple(classes))
    found = unusable(job, pd.DataFrame({"y": labels}))
    assert (found and found.code) == code


def test_large_searches_draw_rows_and_the_winner_is_fitted_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SEARCH_ROWS", 100)
    p = problem()
    assert len(search.sample(p).y) == 100
    winner = search.search(p, search.Budget(("linear",), 1, 10), silent)
    full = judging.fit(p, "linear", winner.parameters, p.x, p.y)
    assert to_bytes(winner.model) == to_bytes(full)


def test_the_model_file_is_the_same_in_another_process_and_loads(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_training_domain import problem, judging, candidates, to_bytes\n"
        "p = problem()\n"
        "m = judging.fit(p, 'random_forest', candidates.DEFAULTS['random_forest'], p.x, p.y)\n"
        "Path(sys.argv[2]).write_bytes(to_bytes(m))\n"
    )
    made = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        command = [sys.executable, "-c", script, str(Path(__file__).parent), str(out)]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": seed})
        made.append(out.read_bytes())
    assert made[0] == made[1]
    p = problem()
    model = judging.fit(p, "random_forest", candidates.DEFAULTS["random_forest"], p.x, p.y)
    loaded = skops.io.loads(made[0], trusted=["numpy.dtype", "sklearn.tree._tree.Tree"])
    assert (loaded.predict_proba(p.x) == model.predict_proba(p.x)).all()


def test_the_layout_is_float32_and_strings_with_missing_ones_marked() -> None:
    raw = pd.DataFrame({"n": pd.array([1, None, 2], "Int64"), "big": [1e39, 1.5, np.nan], "s": ["a", None, "b"]})
    laid = frame(raw, ["big", "n"], ["s"])
    assert list(laid.columns) == ["big", "n", "s"]
    assert laid.big.dtype == laid.n.dtype == np.float32
    assert laid.big.isna().tolist() == [True, False, True]
    assert laid.s.tolist() == ["a", "", "b"]


def test_a_column_of_names_is_encoded_by_its_most_frequent_ones() -> None:
    names = [f"n{i:04d}" for i in range(500)] + ["often"] * 5
    x = pd.DataFrame({"s": np.array(names, dtype=object)})
    (kept,) = frequent_categories(x, 0)
    assert len(kept) == MAX_CATEGORIES and "often" in kept and kept == sorted(kept)


@settings(deadline=None)
@given(
    arrays(np.bool_, 200),
    arrays(np.float64, 200, elements=st.floats(0, 1)),
)
def test_the_threshold_is_the_best_one_or_none(hit: np.ndarray, p: np.ndarray) -> None:
    chosen = threshold.f1_threshold(hit, p)
    usual = f1_score(hit, p > 0.5, zero_division=0.0)
    if chosen is None:
        return
    assert hit.sum() >= threshold.ENOUGH_POSITIVES
    best = max(f1_score(hit, p >= t, zero_division=0.0) for t in np.unique(p))
    assert f1_score(hit, p >= chosen) == pytest.approx(best)
    assert best >= usual + 0.01


def test_scores_of_perfect_and_of_wrong_answers() -> None:
    y = np.array([0, 1, 0, 1])
    perfect = np.eye(2)[y]
    found = scores(Answers(y, perfect, 1))
    assert {found[m] for m in ("accuracy", "precision", "recall", "f1", "roc_auc")} == {1.0}
    assert found["brier"] == found["log_loss"] == 0.0
    assert scores(Answers(y, 1 - perfect, 1))["accuracy"] == 0.0
    assert confusion(Answers(y, perfect, 1)) == [[2, 0], [0, 2]]
    assert sum(n for *_, n in calibration(Answers(y, perfect, 1))) == 4
    assert "roc_auc" not in scores(Answers(np.zeros(3, int), perfect[:3], 1))
    assert scores(Answers(y.astype(float), y.astype(float))) == {"mae": 0.0, "rmse": 0.0, "r2": 1.0}


def test_a_threshold_decides_binary_labels() -> None:
    p = np.array([[0.7, 0.3], [0.9, 0.1]])
    assert Answers(np.array([1, 0]), p, 1, 0.25).labels.tolist() == [1, 0]
    assert Answers(np.array([1, 0]), p, 1).labels.tolist() == [0, 0]
    assert Answers(np.array([1, 0]), p, 0, 0.8).labels.tolist() == [1, 0]


def test_importance_finds_the_column_that_matters() -> None:
    rng = np.random.default_rng(0)
    x = pd.DataFrame({"noise": rng.normal(size=300), "signal": rng.normal(size=300)})
    y = x.signal.to_numpy()

    def importance(seconds: float) -> list[Importance]:
        return permutation_importance(
            lambda f: f.signal.to_numpy(),
            lambda given, rows: -float(np.abs(given - y[rows]).mean()),
            x,
            repeats=3,
            seed=0,
            seconds=seconds,
        )

    signal, noise = importance(10)
    assert signal.name == "signal" and signal.mean > 0.5
    assert noise.mean == noise.error == 0.0
    assert importance(-1) == []


def test_the_error_of_an_importance_is_what_it_varies_by_from_sample_to_sample() -> None:
    rng = np.random.default_rng(0)

    def found(n: int) -> dict[str, Importance]:
        x = pd.DataFrame({"signal": rng.normal(size=n), "idle": rng.normal(size=n)})
        y = x.signal.to_numpy() + rng.normal(size=n) > 0
        score = lambda given, rows: float((given == y[rows]).mean())  # noqa: E731
        answers = lambda f: f.signal.to_numpy() + 0.05 * f.idle.to_numpy() > 0  # noqa: E731
        each = permutation_importance(answers, score, x, repeats=3, seed=0, seconds=10)
        return {i.name: i for i in each}

    samples = [found(1_000) for _ in range(60)]
    for name in ("signal", "idle"):
        spread = float(np.std([sample[name].mean for sample in samples]))
        told = float(np.median([sample[name].error for sample in samples]))
        assert 0.6 * spread < told < 1.6 * spread, (name, spread, told)
    assert all(sample["signal"].mean > 5 * sample["signal"].error for sample in samples)
    assert sum(sample["idle"].mean > 2 * sample["idle"].error for sample in samples) < 10
    assert found(250)["signal"].error > 1.4 * np.median([sample["signal"].error for sample in samples])


def test_rows_since_a_time_the_newest_of_them_and_those_still_alive(tmp_path: Path) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = [None, *[start + timedelta(days=i) for i in range(9)]]
    table = pa.table(
        {
            "v": list(range(10)),
            "tidemill_time": pa.array(times, pa.timestamp("us", "UTC")),
            "tidemill_ordinal": pa.array(range(10), pa.int64()),
        }
    )
    pq.write_table(table.slice(0, 6), tmp_path / "a")
    pq.write_table(table.slice(6), tmp_path / "b")
    files = rows.Files((tmp_path / "b", tmp_path / "a"), 3)
    assert rows.read(files, None)["v"].to_pylist() == [3, 4, 5, 6, 7, 8, 9]
    late = rows.read(files, start + timedelta(days=4))
    assert late["v"].to_pylist() == [5, 6, 7, 8, 9]
    assert rows.newest({"train": late, "validation": late.slice(0, 0)}, 2)["train"]["v"].to_pylist() == [8, 9]
    assert rows.newest({"train": late}, None)["train"] is late
    assert rows.read(replace(files, paths=()), None).num_rows == 0
    assert rows.count_since(tmp_path / "a", start, 3) == 3
    assert rows.count_since(tmp_path / "a", start, 0) == 5
