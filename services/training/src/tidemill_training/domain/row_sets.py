"""Which rows to learn from after a change: those since then, or older ones too where they prove to help."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tidemill_training.domain.evaluation import LOWER_IS_BETTER, Answers, scores, utility
from tidemill_training.domain.judging import Older, Problem, fit, judge
from tidemill_training.domain.preprocessing import frequent_categories
from tidemill_training.domain.search import SEARCH_ROWS, Winner, sample

Array = NDArray[Any]
SINCE = "since"
BY_CHANCE = 2.13
"""Standard errors that one of three equally good sets exceeds in 5 of 100 comparisons (Bonferroni, one-sided)."""
RULE = f"smallest loss of those better than since by {BY_CHANCE} standard errors and in the primary metric no worse"
_SHARE = 1 / 3
"""Of the weight that older rows have together at most, weighted."""


@dataclass(frozen=True)
class Tried:
    """A set and how the winner's choice, fitted on it, answers the rows that judge."""

    rows: str
    older: int
    score: float | None
    """The primary metric."""
    gain: float
    """By how much its mean loss is smaller than that of the rows since the change."""
    error: float
    """Standard error of ``gain``, paired by row."""


@dataclass(frozen=True)
class Choice:
    """The set that was taken, and what was compared."""

    taken: str
    rule: str
    judged_rows: int
    tried: tuple[Tried, ...]


def choose(
    problem: Problem, winner: Winner, older: Older | None, report: Callable[[dict[str, Any]], None]
) -> tuple[Problem, Winner, Choice | None]:
    """Fit the winner's choice on each row set there is and keep ``since`` unless another is better by more than chance.

    ``older`` in order of arrival, the newest SEARCH_ROWS of which are looked at; without any nothing is chosen. What
    judges the search judges here: folds of the rows since the change, each with all older rows beside it, or the
    validation rows. Folds share half of their rows, which makes the standard error a little too small.
    """
    if older is None:
        return problem, winner, None
    older = Older(older.x.iloc[-SEARCH_ROWS:], older.y[-SEARCH_ROWS:])
    small = sample(problem)
    plain = losses(problem, winner.answers)
    tried = [Tried(SINCE, 0, _score(problem, winner.answers), 0.0, 0.0)]
    best, judged = tried[0], winner.answers
    for name, rows in row_sets(older, len(small.y)).items():
        given, _ = judge(learning(small, rows), winner.family, winner.parameters)
        found = _compared(problem, name, rows, plain, given)
        tried.append(found)
        report({"stage": "fitting", "family": winner.family, "rows": name, "score": found.score})
        if _surely_better(found, tried[0], problem.metric) and found.gain > best.gain:
            best, judged = found, given
    choice = Choice(best.rows, RULE, len(plain), tuple(tried))
    if best.rows == SINCE:
        return problem, winner, choice
    problem = learning(problem, row_sets(older, len(problem.y))[best.rows])
    model = fit(problem, winner.family, winner.parameters, problem.x, problem.y)
    return problem, replace(winner, model=model, answers=judged), choice


def row_sets(older: Older, count: int) -> dict[str, Older]:
    """What may be learned from besides ``count`` rows since the change: ``newest`` as many again, ``all``, and
    ``weighted``: exponentially by age, with the half-life that leaves the older rows _SHARE of the weight."""
    n = len(older.y)
    sets = {"newest": Older(older.x.iloc[-count:], older.y[-count:])} if count < n else {}
    scale = count * _SHARE / (1 - _SHARE)  # the sum of exp(-age / scale) over all ages
    return sets | {"all": older, "weighted": replace(older, weight=np.exp(-np.arange(n, 0, -1) / scale))}


def learning(problem: Problem, older: Older | None) -> Problem:
    """The problem whose fits learn from ``older`` rows too, and know their categories."""
    if older is None:
        return problem
    x = pd.concat([older.x, problem.x], ignore_index=True)
    return replace(problem, older=older, categories=frequent_categories(x, problem.numeric))


def losses(problem: Problem, answers: Answers) -> Array:
    """[n] Brier's loss of each row (Brier 1950), or its squared, for ``mae`` its absolute error: unlike most metrics
    they are means over rows, so that two models can be compared row by row."""
    if answers.classifies:
        truth = np.eye(answers.answer.shape[1])[answers.y]
        return np.asarray(((answers.answer - truth) ** 2).sum(axis=1))
    wrong = np.abs(answers.answer - answers.y)
    return np.asarray(wrong if problem.metric == "mae" else wrong**2)


def _compared(problem: Problem, name: str, rows: Older, plain: Array, given: Answers) -> Tried:
    gains = plain - losses(problem, given)
    error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else float("inf")
    return Tried(name, len(rows.y), _score(problem, given), float(gains.mean()), error)


def _surely_better(found: Tried, since: Tried, metric: str) -> bool:
    if found.score is None or since.score is None or found.gain <= BY_CHANCE * found.error:
        return False
    worse = found.score > since.score if metric in LOWER_IS_BETTER else found.score < since.score
    return not worse


def _score(problem: Problem, answers: Answers) -> float | None:
    value = utility(problem.metric, scores(answers))
    if not np.isfinite(value):
        return None
    return -value if problem.metric in LOWER_IS_BETTER else value
