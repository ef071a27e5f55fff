"""How good a choice of family and hyper-parameters is: answers to rows it was not fitted on."""

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline

from tidemill_training.domain import candidates
from tidemill_training.domain.evaluation import Answers
from tidemill_training.domain.preprocessing import assemble, frequent_categories
from tidemill_training.domain.threshold import f1_threshold

Array = NDArray[Any]
FEW_ROWS = 200
"""So few validation rows tell two trials apart badly (0.03 is one standard error of an accuracy of 0.8 on 200): folds
of all rows do instead, which are several times as many. Measured on windows of 350 to 1 000 rows after the change
of 1922 in 137 seasons of baseball: F1 on the seasons after 0.70 to 0.75 instead of 0.61 to 0.68."""
_NONE = 30
"""So few say nothing at all."""
_FOLDS = 3


@dataclass(frozen=True)
class Older:
    """[n] rows from before a change that are learned from beside those since then, and never judge."""

    x: pd.DataFrame
    y: Array
    weight: Array | None = None
    """[n] what each counts, where a row since the change counts 1; None: the same."""

    def with_later(self, x: pd.DataFrame, y: Array) -> tuple[pd.DataFrame, Array, Array | None]:
        """These rows and then the later ones, with the weights of all."""
        weight = None if self.weight is None else np.concatenate([self.weight, np.ones(len(y))])
        return pd.concat([self.x, x], ignore_index=True), np.concatenate([self.y, y]), weight


@dataclass(frozen=True)
class Problem:
    """Rows in the model's layout, with what is to be predicted: class indexes, or values."""

    task: str
    metric: str
    x: pd.DataFrame
    y: Array
    x_validation: pd.DataFrame
    y_validation: Array
    numeric: int
    categories: list[list[str]]
    classes: int
    positive: int
    seed: int
    jobs: int
    tune_threshold: bool = False
    older: Older | None = None
    """Every fit learns from them too."""

    @property
    def classifies(self) -> bool:
        """Whether classes are predicted."""
        return self.task == "classification"

    @property
    def judged_by_folds(self) -> bool:
        """Whether the validation rows are too few to choose and to judge by."""
        return len(self.y_validation) <= FEW_ROWS or not self.explicable

    @property
    def explicable(self) -> bool:
        """Whether the validation rows say anything."""
        one_class = self.classifies and len(np.unique(self.y_validation)) < 2
        return len(self.y_validation) >= _NONE and not one_class


def pooled(problem: Problem) -> Problem:
    """The problem as it is fitted: validation rows that do not judge are learned from."""
    if not problem.judged_by_folds or not len(problem.y_validation):
        return problem
    x = pd.concat([problem.x, problem.x_validation], ignore_index=True)
    return replace(
        problem,
        x=x,
        y=np.concatenate([problem.y, problem.y_validation]),
        x_validation=problem.x_validation.iloc[:0],
        y_validation=problem.y_validation[:0],
        categories=frequent_categories(x, problem.numeric),
    )


def fit(problem: Problem, family: str, parameters: dict[str, Any], x: pd.DataFrame, y: Array) -> Pipeline:
    """A model fitted on these rows, and on the problem's older ones."""
    weight = None
    if problem.older is not None:
        x, y, weight = problem.older.with_later(x, y)
    estimator = candidates.estimator(family, problem.task, parameters, problem.seed, problem.jobs)
    with warnings.catch_warnings():
        # One that has not converged is judged like any other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = assemble(family, estimator, problem.numeric, problem.categories)
        return model.fit(x, y) if weight is None else model.fit(x, y, model__sample_weight=weight)


def answer(problem: Problem, model: Pipeline, x: pd.DataFrame) -> Array:
    """[n, classes] probabilities, zero for classes the model never saw; or [n] values."""
    if not problem.classifies:
        return np.asarray(model.predict(x), dtype=np.float64).reshape(-1)
    full = np.zeros((len(x), problem.classes))
    full[:, model.classes_.astype(int)] = model.predict_proba(x)
    return full


def answers(problem: Problem, y: Array, given: Array) -> Answers:
    """Answers with the threshold they are best read with, where that may be chosen."""
    threshold = None
    if problem.tune_threshold and problem.metric == "f1" and problem.classes == 2:
        threshold = f1_threshold(y == problem.positive, given[:, problem.positive])
    return Answers(y, given, problem.positive, threshold)


def judge(problem: Problem, family: str, parameters: dict[str, Any]) -> tuple[Answers, Pipeline | None]:
    """Answers to the validation rows and the model that gave them; or, where those are few, to the training rows, each
    by the one of three models that had not seen it, and no model."""
    if problem.judged_by_folds:
        return _by_folds(problem, family, parameters), None
    model = fit(problem, family, parameters, problem.x, problem.y)
    return judge_model(problem, model), model


def judge_model(problem: Problem, model: Pipeline) -> Answers:
    """A fitted model's answers to the validation rows."""
    return answers(problem, problem.y_validation, answer(problem, model, problem.x_validation))


def judge_baseline(problem: Problem) -> Answers:
    """The dummy's answers to the same rows."""
    dummy = candidates.baseline(problem.task).fit(np.zeros((len(problem.y), 1)), problem.y)
    y = problem.y if problem.judged_by_folds else problem.y_validation
    given = dummy.predict_proba(np.zeros((len(y), 1))) if problem.classifies else dummy.predict(np.zeros((len(y), 1)))
    return Answers(y, np.asarray(given), problem.positive)


def _by_folds(problem: Problem, family: str, parameters: dict[str, Any]) -> Answers:
    shape = (len(problem.y), problem.classes) if problem.classifies else (len(problem.y),)
    given = np.zeros(shape)
    for train, held_out in _splits(problem):
        model = fit(problem, family, parameters, problem.x.iloc[train], problem.y[train])
        given[held_out] = answer(problem, model, problem.x.iloc[held_out])
    return answers(problem, problem.y, given)


def _splits(problem: Problem) -> list[tuple[Array, Array]]:
    if not problem.classifies:
        return list(KFold(_FOLDS, shuffle=True, random_state=problem.seed).split(problem.x))
    with warnings.catch_warnings():
        # Of several classes a rare one may have fewer rows than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=problem.seed)
        return list(folds.split(problem.x, problem.y))
