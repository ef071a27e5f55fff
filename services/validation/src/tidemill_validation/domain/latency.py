"""How long a package takes."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill_validation.domain.gate import Finding
from tidemill_validation.domain.package import Package

Array = NDArray[Any]
_BATCH = 1_000


def latency(package: Package, numbers: Array, strings: Array, single_ms: float, batch_ms: float) -> list[Finding]:
    """Medians of a single row and of 1 000 rows, in one thread of this machine, against their bounds."""
    single = _median_ms(package, numbers, strings, rows=1, times=30)
    batch = _median_ms(package, numbers, strings, rows=_BATCH, times=5)
    return [
        Finding("latency", single <= single_ms, f"a single row takes {single:.2f} ms", single, single_ms, "too_slow"),
        Finding(
            "batch_latency",
            batch <= batch_ms,
            f"{_BATCH} rows take {batch:.1f} ms",
            batch,
            batch_ms,
            "too_slow_in_batches",
        ),
    ]


def _median_ms(package: Package, numbers: Array, strings: Array, *, rows: int, times: int) -> float:
    index = np.arange(rows) % len(numbers)
    a, b = numbers[index], strings[index]
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        package.answer(a, b)
        taken.append((time.perf_counter() - begun) * 1000)
    return float(np.median(taken))
