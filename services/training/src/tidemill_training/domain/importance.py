"""Permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019): how much of the score a column carries."""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd


def permutation_importance(
    score: Callable[[pd.DataFrame], float], x: pd.DataFrame, *, repeats: int, seed: int, seconds: float
) -> list[tuple[str, float, float]]:
    """Name, mean and standard deviation of the loss of ``score`` (more is better) when a column is shuffled.

    Stops early after ``seconds``: columns not reached are left out.
    """
    rng = np.random.default_rng(seed)
    base = score(x)
    deadline = time.monotonic() + seconds
    found = []
    for name in x.columns:
        if time.monotonic() > deadline:
            break
        losses = []
        for _ in range(repeats):
            shuffled = x.copy(deep=False)
            shuffled[name] = x[name].to_numpy()[rng.permutation(len(x))]
            losses.append(base - score(shuffled))
        found.append((str(name), float(np.mean(losses)), float(np.std(losses))))
    return found
