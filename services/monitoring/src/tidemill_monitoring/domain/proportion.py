"""Is a share larger than it was? For missing cells and unseen categories."""

import math
from functools import lru_cache

_EXACT_ROWS = 2_000


def increase_p_value(before: int, before_rows: int, now: int, now_rows: int) -> float:
    """One-sided p-value that the share ``now / now_rows`` exceeds ``before / before_rows`` by chance alone.

    Fisher's exact test (hypergeometric tail); with many cases on both sides its normal approximation.
    """
    cases, rows = before + now, before_rows + now_rows
    if now == 0 or now_rows == 0 or before_rows == 0:
        return 1.0
    if cases > _EXACT_ROWS:
        mean = now_rows * cases / rows
        variance = mean * (before_rows / rows) * ((rows - cases) / (rows - 1))
        if variance <= 0:
            return 1.0
        return 0.5 * math.erfc((now - 0.5 - mean) / math.sqrt(2 * variance))
    total = _log_choose(rows, now_rows)
    tail = (
        math.exp(_log_choose(cases, k) + _log_choose(rows - cases, now_rows - k) - total)
        for k in range(now, min(cases, now_rows) + 1)
        if now_rows - k <= rows - cases
    )
    return min(1.0, math.fsum(tail))


@lru_cache(4_096)
def significant_from(before: int, before_rows: int, now_rows: int, rate: float) -> float:
    """The smallest share of ``now_rows`` that would be beyond chance at ``rate``; above 1 when none would."""
    low, high = 0, now_rows + 1
    while low + 1 < high:
        middle = (low + high) // 2
        if increase_p_value(before, before_rows, middle, now_rows) < rate:
            high = middle
        else:
            low = middle
    return high / now_rows


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
