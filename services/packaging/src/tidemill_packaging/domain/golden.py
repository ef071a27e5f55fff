"""Golden predictions: rows whose answers every holder of the package must be able to repeat."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LEAST_TOLERANCE = 1e-4
"""Room for another processor's float32."""


def differences(trained: Array, packaged: Array) -> Array:
    """[n]: the largest difference of a probability ([n, classes] given), or of a value relative to max(1, |value|)."""
    off: Array = np.abs(trained - packaged)
    worst: Array = off.max(axis=1) if off.ndim == 2 else off / np.maximum(1.0, np.abs(trained))
    return worst


def choose(difference: Array, real: int, count: int) -> list[int]:
    """Indices of ``count`` rows at most: half of them real ones (the first ``real``), evenly spread, the others from
    the end of the drawn ones, where the odd rows lie.

    Rows on which the models differ more than they usually do are passed over: parity has counted them, and a proof
    that had to tolerate them would prove nothing.
    """
    usual = difference <= max(LEAST_TOLERANCE / 2, float(np.median(difference)))
    ours, drawn = np.flatnonzero(usual[:real]), np.flatnonzero(usual[real:]) + real
    half = drawn[::-1][: max(1, count // 2)]
    spread = np.linspace(0, len(ours) - 1, min(len(ours), count - len(half))) if len(ours) else np.empty(0)
    return [int(i) for i in (*ours[np.unique(spread.astype(int))], *half[::-1])]


def tolerance(difference: Array) -> float:
    """What a holder's answers may differ by, given how much the package's did."""
    return max(LEAST_TOLERANCE, 2 * float(difference.max(initial=0.0)))
