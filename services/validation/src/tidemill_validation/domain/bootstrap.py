"""Champion against challenger on the same rows: the paired bootstrap (Efron and Tibshirani 1993, chapter 16)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill_validation.domain.package import Answers
from tidemill_validation.domain.scores import LOWER_IS_BETTER, resampled, score

Array = NDArray[Any]
_CELLS = 20_000_000
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
    """Rows are drawn with replacement, the same draws for both models."""
    n = len(y)
    rng = np.random.default_rng(seed)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    block = max(1, min(resamples, _CELLS // max(n, 1)))
    differences = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float32)
        a = resampled(metric, y, champion, positive, weights)
        b = resampled(metric, y, challenger, positive, weights)
        differences.append(sign * (b - a))
    drawn = np.concatenate(differences)
    drawn = drawn[np.isfinite(drawn)]
    before, after = score(metric, y, champion, positive), score(metric, y, challenger, positive)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]) if len(drawn) else (-np.inf, np.inf)
    return Difference(before, after, sign * (after - before), float(low), float(high))
