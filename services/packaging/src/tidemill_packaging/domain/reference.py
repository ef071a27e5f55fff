"""The reference window: what the model's training rows looked like, small enough to travel with the package."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill_packaging.job import Column

Array = NDArray[Any]
BINS = 20
_CATEGORIES = 200


def numeric_column(name: str, values: Array) -> Column:
    """Edges at the quantiles of the values (distinct ones only); counts between and beyond them."""
    known = values[np.isfinite(values)].astype(np.float64)
    missing = len(values) - len(known)
    if not len(known):
        return Column(name, "numeric", len(values), missing)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
    return Column(
        name,
        "numeric",
        len(values),
        missing,
        tuple(edges.tolist()),
        tuple(int(c) for c in counts),
        None,
        float(known.min()),
        float(known.max()),
        float(known.mean()),
        float(known.std()),
    )


def categorical_column(name: str, values: Array) -> Column:
    """Counts of the most frequent categories; "" is missing."""
    found, counts = np.unique(np.asarray(values, str), return_counts=True)
    table = {str(k): int(c) for k, c in zip(found, counts, strict=True)}
    missing = table.pop("", 0)
    top = dict(sorted(table.items(), key=lambda item: (-item[1], item[0]))[:_CATEGORIES])
    return Column(name, "categorical", len(values), missing, categories=top)
