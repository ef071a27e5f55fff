"""Permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019): how much of the score a column carries."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[Any]


def permutation_importance(
    answer: Callable[[pd.DataFrame], Array],
    score: Callable[[Array], float],
    x: pd.DataFrame,
    *,
    repeats: int,
    seed: int,
    seconds: float,
) -> list[tuple[str, float, float]]:
    """Name, mean and standard deviation of the loss of ``score`` (more is better) when a column is shuffled.

    ``answer`` maps rows to answers; it is called once a column with all repeats, because a call costs more than its
    rows. Stops after ``seconds``: columns not reached are left out. Largest first.
    """
    rng = np.random.default_rng(seed)
    base = score(answer(x))
    deadline = time.monotonic() + seconds
    n = len(x)
    stacked = pd.concat([x] * repeats, ignore_index=True)
    found = []
    for name in x.columns:
        if time.monotonic() > deadline:
            break
        values = x[name].to_numpy()
        shuffled = stacked.assign(**{str(name): np.concatenate([values[rng.permutation(n)] for _ in range(repeats)])})
        answers = answer(shuffled)
        losses = [base - score(answers[i * n : (i + 1) * n]) for i in range(repeats)]
        found.append((str(name), float(np.mean(losses)), float(np.std(losses))))
    return sorted(found, key=lambda item: (-item[1], item[0]))
