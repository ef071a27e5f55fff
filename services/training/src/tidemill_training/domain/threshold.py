"""The probability from which a binary model answers its positive class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ENOUGH_POSITIVES = 30
"""With fewer positives the best threshold of a sample is chance."""
_LEAST_GAIN = 0.01


def f1_threshold(hit: NDArray[Any], p: NDArray[Any]) -> float | None:
    """The threshold on ``p`` [n] with the best F1 for ``hit`` [n] (bool), half way between neighbouring scores.

    None when there are too few positives, or nothing to gain over the most probable class. There is none for
    precision or recall alone: always refusing, or always agreeing, would be best.
    """
    hit = hit.astype(bool)
    if hit.sum() < ENOUGH_POSITIVES:
        return None
    order = np.argsort(-p, kind="stable")
    scores, right = p[order], np.cumsum(hit[order])
    f1 = 2 * right / (np.arange(1, len(p) + 1) + hit.sum())
    last_of_ties = np.append(scores[1:] != scores[:-1], True)
    best = int(np.argmax(np.where(last_of_ties, f1, -1.0)))
    usual = p > 0.5
    gain = f1[best] - 2 * (usual & hit).sum() / max(1, usual.sum() + hit.sum())
    if gain < _LEAST_GAIN or best + 1 == len(p):
        return None
    return float((scores[best] + scores[best + 1]) / 2)
