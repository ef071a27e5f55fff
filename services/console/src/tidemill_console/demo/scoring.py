"""F1 over seasons."""

from collections.abc import Iterable


def f1(pairs: Iterable[tuple[int, int]]) -> float:
    """2·TP / (2·TP + FP + FN) of (truth, prediction) pairs; 0 when there is neither."""
    tp = wrong = 0
    for truth, predicted in pairs:
        tp += truth and predicted
        wrong += truth != predicted
    return 2 * tp / (2 * tp + wrong) if tp or wrong else 0.0


Pairs = dict[int, list[tuple[int, int]]]
"""By season."""


def over(pairs: Pairs, first: int, last: int) -> float:
    """F1 over the seasons from ``first`` to ``last``."""
    return f1(p for year, found in pairs.items() if first <= year <= last for p in found)


def rolling(pairs: Pairs, seasons: int = 5) -> list[tuple[int, float]]:
    """F1 of each season together with the ones before it."""
    return [(year, over(pairs, year - seasons + 1, year)) for year in sorted(pairs)]
