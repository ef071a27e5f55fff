"""Did the error jump, or is it still growing? A step against a hinge, fitted to the runs of values that ADWIN keeps."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

_CLEAR = 6.0
"""Twice the logarithm of the likelihood ratio that settles it: e**3 to one."""
_LASTING_ROWS = 100
"""An error that began to grow fewer rows ago cannot be called gradual yet: runs that mix rows from before and after a
jump look like a slope, and whoever retrains waits for more rows anyway."""


def course(sizes: Sequence[int], means: Sequence[float], spread: float) -> Literal["abrupt", "gradual"] | None:
    """How the mean changed over runs of ``sizes`` values with these ``means``, oldest first; None: it cannot be told.

    A step (two levels) and a hinge (a level, then a line) have as many parameters, so their sums of squares compare
    directly, in units of ``spread``, the variance of a single value.
    """
    weights, levels = np.asarray(sizes, np.float64), np.asarray(means, np.float64)
    if len(levels) < 4 or spread <= 0:
        return None
    places = np.cumsum(weights) - weights / 2
    steps = [_left(np.where(places < knot, 0.0, 1.0), levels, weights) for knot in places[1:]]
    hinges = [_left(np.maximum(places - knot, 0.0), levels, weights) for knot in places[:-1]]
    gain = (min(steps) - min(hinges)) / spread
    if abs(gain) < _CLEAR:
        return None
    if gain < 0:
        return "abrupt"
    growing = places[-1] - places[int(np.argmin(hinges))]
    return "gradual" if growing >= _LASTING_ROWS else None


def _left(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """The weighted sum of squares that a line through ``x`` leaves of ``y``."""
    dx, dy = x - np.average(x, weights=weights), y - np.average(y, weights=weights)
    square = float((weights * dx * dx).sum())
    explained = float((weights * dx * dy).sum()) ** 2 / square if square > 0 else 0.0
    return float((weights * dy * dy).sum()) - explained
