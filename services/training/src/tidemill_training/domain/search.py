"""Seeded search for the best family and hyper-parameters under a budget of trials and seconds."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline

from tidemill_training.domain import candidates
from tidemill_training.domain.evaluation import better, classification_scores, regression_scores
from tidemill_training.domain.preprocessing import assemble

Array = NDArray[Any]
Report = Callable[[dict[str, Any]], None]
_FEW_ROWS = 30
"""A validation split smaller than this (or of one class) is too noisy to choose by; folds of train are used."""


@dataclass(frozen=True)
class Problem:
    """Rows in the model's layout, with what is to be predicted."""

    task: str
    x: pd.DataFrame
    y: Array
    x_validation: pd.DataFrame
    y_validation: Array
    numeric: int
    categorical: int
    classes: int
    positive: int
    metric: str


@dataclass(frozen=True)
class Budget:
    """What the search may spend."""

    families: tuple[str, ...]
    trials: int
    seconds: float
    seed: int
    jobs: int


@dataclass(frozen=True)
class Best:
    """The winner and every trial."""

    family: str
    parameters: dict[str, Any]
    score: float
    trials: tuple[dict[str, Any], ...]


def probabilities(model: Pipeline, x: pd.DataFrame, classes: int) -> Array:
    """[n, classes], with zeros for classes the training rows did not have."""
    p = model.predict_proba(x)
    full = np.zeros((len(x), classes))
    full[:, model.classes_.astype(int)] = p
    return full


def scores(model: Pipeline, problem: Problem, x: pd.DataFrame, y: Array) -> dict[str, float]:
    """Every metric of a fitted model."""
    if problem.task == "classification":
        return classification_scores(y, probabilities(model, x, problem.classes), problem.positive)
    return regression_scores(y, model.predict(x))


def fit(problem: Problem, family: str, parameters: dict[str, Any], budget: Budget, x: Any, y: Any) -> Pipeline:
    """A fitted model."""
    estimator = candidates.estimator(family, problem.task, parameters, budget.seed, budget.jobs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return assemble(family, estimator, problem.numeric, problem.categorical).fit(x, y)


def _judge(problem: Problem, family: str, parameters: dict[str, Any], budget: Budget) -> float:
    few = len(problem.y_validation) < _FEW_ROWS
    if problem.task == "classification":
        few = few or len(np.unique(problem.y_validation)) < min(2, problem.classes)
    if not few:
        model = fit(problem, family, parameters, budget, problem.x, problem.y)
        found = scores(model, problem, problem.x_validation, problem.y_validation)
        return better(problem.metric, found.get(problem.metric, found.get("accuracy", 0.0)))
    folds: Any = KFold(3, shuffle=True, random_state=budget.seed)
    if problem.task == "classification":
        counts = np.bincount(problem.y)
        if counts[counts > 0].min() >= 3:
            folds = StratifiedKFold(3, shuffle=True, random_state=budget.seed)
    values = []
    for train, held_out in folds.split(problem.x, problem.y):
        if problem.task == "classification" and len(np.unique(problem.y[train])) < 2:
            continue
        model = fit(problem, family, parameters, budget, problem.x.iloc[train], problem.y[train])
        found = scores(model, problem, problem.x.iloc[held_out], problem.y[held_out])
        values.append(better(problem.metric, found.get(problem.metric, found.get("accuracy", 0.0))))
    return float(np.mean(values)) if values else float("-inf")


def search(problem: Problem, budget: Budget, report: Report) -> Best:
    """Each family's defaults first, then a seeded TPE sampler; the first trial always completes."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=budget.seed, n_startup_trials=max(5, len(budget.families)))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for family in budget.families:
        study.enqueue_trial({"family": family} | candidates.DEFAULTS[family], skip_if_exists=False)
    started, rows, best = time.monotonic(), [], None
    for number in range(budget.trials):
        if number and time.monotonic() - started > budget.seconds:
            break
        trial = study.ask()
        family = trial.suggest_categorical("family", list(budget.families))
        parameters = candidates.suggest(trial, family)
        if number < len(budget.families):
            parameters = candidates.DEFAULTS[family]
        begun = time.monotonic()
        value = _judge(problem, family, parameters, budget)
        study.tell(trial, value if np.isfinite(value) else -1e9)
        score = better(problem.metric, value)
        rows.append({"family": family, "score": score, "seconds": round(time.monotonic() - begun, 3)} | parameters)
        if best is None or value > best[0]:
            best = (value, family, parameters)
        report(
            {
                "stage": "searching",
                "trial": number + 1,
                "trials": budget.trials,
                "family": family,
                "score": score,
                "best": better(problem.metric, best[0]),
            }
        )
    assert best is not None  # noqa: S101 - a budget has at least one trial
    return Best(best[1], best[2], better(problem.metric, best[0]), tuple(rows))
