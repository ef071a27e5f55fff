"""Permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019): how much of the score a column carries."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tidemill_training.domain import evaluation, judging
from tidemill_training.domain.search import Winner

Array = NDArray[Any]
_REPEATS = 3
_GROUPS = 10


class Importance(NamedTuple):
    """Loss of the score when a column is shuffled: mean and standard deviation over shuffles, and the standard error
    of the mean, which comes from the choice of rows (jackknife that leaves a tenth of them out: Kott 2001)."""

    name: str
    mean: float
    std: float
    error: float


def explained(
    problem: judging.Problem, winner: Winner, metric: str, *, rows: int, seed: int, seconds: float
) -> list[Importance]:
    """On the newest rows the model has not seen: where they were learned from, it is the same choice fitted without
    them."""
    x, y = (problem.x_validation, problem.y_validation) if problem.explicable else (problem.x, problem.y)
    model = winner.model
    if problem.explicable and problem.judged_by_folds:
        model = judging.fit(problem, winner.family, winner.parameters, problem.x, problem.y)
    x, y = x.iloc[-rows:], y[-rows:]
    threshold = winner.answers.threshold

    def score(answer: Array, at: Array) -> float:
        value = evaluation.score(metric, evaluation.Answers(y[at], answer, problem.positive, threshold))
        return value if np.isfinite(value) else 0.0

    def answer(shuffled: pd.DataFrame) -> Array:
        return judging.answer(problem, model, shuffled)

    return permutation_importance(answer, score, x, repeats=_REPEATS, seed=seed, seconds=seconds)


def permutation_importance(
    answer: Callable[[pd.DataFrame], Array],
    score: Callable[[Array, Array], float],
    x: pd.DataFrame,
    *,
    repeats: int,
    seed: int,
    seconds: float,
) -> list[Importance]:
    """Of each column, largest first.

    ``answer`` maps rows to answers; it is called once a column with all repeats, because a call costs more than its
    rows. ``score`` (more is better) is given answers [m] and the positions [m] in ``x`` of the rows they are for. Stops
    after ``seconds``: columns not reached are left out.
    """
    rng = np.random.default_rng(seed)
    deadline = time.monotonic() + seconds
    n = len(x)
    rows = np.arange(n)
    parts = [rows % _GROUPS != group for group in range(min(_GROUPS, n))]
    answers = answer(x)
    base = score(answers, rows)
    base_parts = [score(answers[part], rows[part]) for part in parts]
    stacked, several = pd.concat([x] * repeats, ignore_index=True), np.tile(rows, repeats)
    found = []
    for name in x.columns:
        if time.monotonic() > deadline:
            break
        values = x[name].to_numpy()
        shuffled = stacked.assign(**{str(name): np.concatenate([values[rng.permutation(n)] for _ in range(repeats)])})
        answers = answer(shuffled)
        losses = [base - score(answers[i * n : (i + 1) * n], rows) for i in range(repeats)]
        without = [
            whole - score(answers[part], several[part])
            for whole, part in zip(base_parts, (np.tile(part, repeats) for part in parts), strict=True)
        ]
        error = float(np.std(without) * np.sqrt(len(parts) - 1))
        found.append(Importance(str(name), float(np.mean(losses)), float(np.std(losses)), error))
    return sorted(found, key=lambda item: (-item.mean, item.name))
