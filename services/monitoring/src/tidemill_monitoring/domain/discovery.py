"""Which of many tests are beyond chance."""

from collections.abc import Sequence


def discovered_below(p_values: Sequence[float], rate: float) -> float:
    """The p-value up to which tests count as beyond chance (Benjamini & Hochberg 1995).

    Among the tests found, at most a share ``rate`` is false on average; with no drift anywhere that is the probability
    of finding any. It holds for independent tests and for tests that err together, as several of one column do.
    """
    count = len(p_values)
    best = rate / max(count, 1)
    for rank, p_value in enumerate(sorted(p_values), start=1):
        if p_value <= rate * rank / count:
            best = rate * rank / count
    return best
