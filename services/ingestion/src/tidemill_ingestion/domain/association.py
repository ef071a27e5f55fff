"""How strongly a column goes with the target, between 0 and 1."""

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def pearson(x: Floats, y: Floats) -> float | None:
    """|Pearson's correlation| over rows where both are there; None when either is constant."""
    both = ~(np.isnan(x) | np.isnan(y))
    if both.sum() < 2:
        return None
    x, y = x[both] - x[both].mean(), y[both] - y[both].mean()
    # Not x @ y: on busy cores the threads of the BLAS library make it fifty times slower than one pass.
    scale = np.sqrt((x * x).sum() * (y * y).sum())
    return _share(float(abs((x * y).sum()) / scale)) if scale > 0 else None


def correlation_ratio(codes: Codes, values: Floats) -> float | None:
    """Fisher's η: the square root of the share of the values' variance that lies between the groups.

    ``codes`` number the groups from 0; negative codes and NaN values are left out. None without variance.
    """
    both = (codes >= 0) & ~np.isnan(values)
    if both.sum() < 2:
        return None
    codes, values = codes[both], values[both] - values[both].mean()
    total = (values * values).sum()
    if total <= 0:
        return None
    counts = np.bincount(codes)
    sums = np.bincount(codes, weights=values)
    present = counts > 0
    return _share(np.sqrt((sums[present] ** 2 / counts[present]).sum() / total))


def cramers_v(x: Codes, y: Codes) -> float | None:
    """Cramér's V with the bias correction of Bergsma (2013); None when either has a single category."""
    both = (x >= 0) & (y >= 0)
    n = int(both.sum())
    if n < 2:
        return None
    _, x = np.unique(x[both], return_inverse=True)
    _, y = np.unique(y[both], return_inverse=True)
    r, c = int(x.max()) + 1, int(y.max()) + 1
    if min(r, c) < 2:
        return None
    observed = np.bincount(x * c + y, minlength=r * c).reshape(r, c).astype(np.float64)
    expected = observed.sum(1, keepdims=True) * observed.sum(0, keepdims=True) / n
    phi2 = float(((observed - expected) ** 2 / expected).sum()) / n
    corrected = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return _share(np.sqrt(corrected / smaller)) if smaller > 0 else None


def _share(value: float) -> float:
    return float(min(max(value, 0.0), 1.0))
