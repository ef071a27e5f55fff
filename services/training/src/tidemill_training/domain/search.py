"""Seeded search for the best family and hyper-parameters under a budget of trials and seconds."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from sklearn.pipeline import Pipeline

from tidemill_training.domain import candidates
from tidemill_training.domain.evaluation import LOWER_IS_BETTER, Answers, scores, utility
from tidemill_training.domain.judging import Problem, fit, judge, judge_model

Report = Callable[[dict[str, Any]], None]
SEARCH_ROWS = 20_000
"""Trials are fitted on at most this many training rows, drawn by the seed; the winner is fitted on all of them."""


@dataclass(frozen=True)
class Budget:
    """What the search may spend. The first trial always completes."""

    families: tuple[str, ...]
    trials: int
    seconds: float


@dataclass(frozen=True)
class Winner:
    """The best trial, its model fitted on all training rows, and the answers it is judged by."""

    family: str
    parameters: dict[str, Any]
    model: Pipeline
    answers: Answers
    trials: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class _Trial:
    family: str
    parameters: dict[str, Any]
    utility: float
    answers: Answers
    model: Pipeline | None


def search(problem: Problem, budget: Budget, report: Report) -> Winner:
    """Each family's defaults first, then a seeded TPE sampler (Bergstra et al. 2011). Raises ValueError when no trial
    could be judged."""
    small = sample(problem)
    study = _study(budget.families, problem.seed)
    started = time.monotonic()
    best: _Trial | None = None
    rows: list[dict[str, Any]] = []
    for number in range(budget.trials):
        if number and time.monotonic() - started > budget.seconds:
            break
        begun = time.monotonic()
        asked = study.ask()
        trial = _run(small, asked, budget.families)
        study.tell(asked, trial.utility if np.isfinite(trial.utility) else None, state=_state(trial))
        if best is None or trial.utility > best.utility:
            best = trial
        row = {"family": trial.family, "score": _score(problem, trial), "seconds": round(time.monotonic() - begun, 3)}
        rows.append(row | trial.parameters)
        report(
            {
                "stage": "searching",
                "trial": number + 1,
                "trials": budget.trials,
                "family": trial.family,
                "score": row["score"],
                "best": _score(problem, best),
            }
        )
    if best is None or not np.isfinite(best.utility):
        raise ValueError(f"{problem.metric} is undefined for every trial on these rows")
    return _crown(problem, small, best, tuple(rows), report)


def sample(problem: Problem) -> Problem:
    """The problem with at most SEARCH_ROWS training rows, in their order."""
    n = len(problem.y)
    if n <= SEARCH_ROWS:
        return problem
    chosen = np.sort(np.random.default_rng(problem.seed).choice(n, SEARCH_ROWS, replace=False))
    return replace(problem, x=problem.x.iloc[chosen], y=problem.y[chosen])


def _study(families: tuple[str, ...], seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(5, len(families) + 2))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for family in families:
        study.enqueue_trial({"family": family} | candidates.DEFAULTS[family], skip_if_exists=False)
    return study


def _run(problem: Problem, asked: optuna.Trial, families: tuple[str, ...]) -> _Trial:
    family = asked.suggest_categorical("family", list(families))
    parameters = candidates.suggest(asked, family)
    answers, model = judge(problem, family, parameters)
    return _Trial(family, parameters, utility(problem.metric, scores(answers)), answers, model)


def _state(trial: _Trial) -> optuna.trial.TrialState:
    ok = np.isfinite(trial.utility)
    return optuna.trial.TrialState.COMPLETE if ok else optuna.trial.TrialState.FAIL


def _score(problem: Problem, trial: _Trial) -> float | None:
    if not np.isfinite(trial.utility):
        return None
    return float(-trial.utility if problem.metric in LOWER_IS_BETTER else trial.utility)


def _crown(
    problem: Problem, small: Problem, best: _Trial, trials: tuple[dict[str, Any], ...], report: Report
) -> Winner:
    model, judged = best.model, best.answers
    if model is None or small is not problem:
        report({"stage": "fitting", "family": best.family})
        model = fit(problem, best.family, best.parameters, problem.x, problem.y)
        if not problem.judged_by_folds:
            judged = judge_model(problem, model)
    return Winner(best.family, best.parameters, model, judged, trials)
