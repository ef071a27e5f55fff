"""Champion against challenger on the same rows: the paired bootstrap (Efron and Tibshirani 1993, chapter 16)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill_validation.domain.answers import Answers
from tidemill_validation.domain.scores import LOWER_IS_BETTER, score, weighted

Array = NDArray[Any]
_CELLS = 1_000_000
"""Weights held at once: resamples come in blocks, so that memory does not grow with the rows."""


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion, turned so that positive is better, with a two-sided percentile interval."""

    champion: float
    challenger: float
    difference: float
    low: float
    high: float


def compare(
    metric: str,
    y: Array,
    champion: Answers,
    challenger: Answers,
    positive: int,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Difference:
    """Rows ``y`` [n] are drawn with replacement, the same draws for both models.

    Draws on which the metric is undefined (a class is absent) are left out; without any, nothing is known and the
    interval is unbounded.
    """
    n = len(y)
    rng = np.random.default_rng(seed)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    block = max(1, min(resamples, _CELLS // max(n, 1)))
    found = []
    for start in range(0, resamples, block):
        weights = _draws(rng, min(block, resamples - start), n)
        gain = weighted(metric, y, challenger, positive, weights) - weighted(metric, y, champion, positive, weights)
        found.append(sign * gain)
    drawn = np.concatenate(found)
    drawn = drawn[np.isfinite(drawn)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]) if len(drawn) else (-np.inf, np.inf)
    before, after = score(metric, y, champion, positive), score(metric, y, challenger, positive)
    return Difference(before, after, sign * (after - before), float(low), float(high))


def drawn(metric: str, y: Array, answers: Answers, positive: int, resamples: int, rng: np.random.Generator) -> Array:
    """[resamples]: the metric on rows drawn with replacement; NaN where a draw leaves it undefined."""
    n = len(y)
    block = max(1, min(resamples, _CELLS // max(n, 1)))
    starts = range(0, resamples, block)
    found = [weighted(metric, y, answers, positive, _draws(rng, min(block, resamples - at), n)) for at in starts]
    return np.concatenate(found)


def of_losses(champion: Array, challenger: Array, *, resamples: int, confidence: float, seed: int) -> Difference:
    """The same of two losses of each row [n]: means, lower is better."""
    n = len(champion)
    rng = np.random.default_rng(seed)
    gain = champion - challenger
    block = max(1, min(resamples, _CELLS // max(n, 1)))
    drawn = np.concatenate(
        [_draws(rng, min(block, resamples - start), n) @ gain / n for start in range(0, resamples, block)]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Difference(float(champion.mean()), float(challenger.mean()), float(gain.mean()), float(low), float(high))


def _draws(rng: np.random.Generator, size: int, n: int) -> Array:
    """[size, n]: how often each of n rows is drawn in n draws."""
    drawn = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
