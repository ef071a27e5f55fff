"""The reference window: what the model's training rows looked like, small enough to travel with the package."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill_packaging.domain.column import Column

Array = NDArray[Any]
BINS = 20
CATEGORIES = 200
"""The most frequent ones are counted each, the others are what is left of the rows."""
SAMPLE_ROWS = 1_000
_OTHER, _MISSING = 254, 255


def numeric_column(name: str, values: Array, like: Column | None = None) -> Column:
    """Of [n] float64, NaN is missing: edges at the quantiles (distinct ones only), or those of the column ``like``;
    counts between and beyond them, and of values beyond the range of ``like``.

    The values must be as the monitor will see them: edges rounded to float32 would move values that lie on them.
    """
    known = values[np.isfinite(values)]
    missing = len(values) - len(known)
    if not len(known):
        return Column(name, "numeric", len(values), missing)
    edges = np.asarray(like.edges) if like else np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
    return Column(
        name,
        "numeric",
        len(values),
        missing,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        minimum=float(known.min()),
        maximum=float(known.max()),
        mean=float(known.mean()),
        std=float(known.std()),
        longest_run=_longest_run(known),
        outside=_outside(known, like),
    )


def _outside(known: Array, like: Column | None) -> int | None:
    if like is None or like.minimum is None or like.maximum is None:
        return None
    return int(np.count_nonzero((known < like.minimum) | (known > like.maximum)))


def _longest_run(known: Array) -> int:
    """The most values in a row that are the same."""
    ends = np.flatnonzero(np.append(known[1:] != known[:-1], True))
    return int(np.diff(ends, prepend=-1).max())


def categorical_column(name: str, values: Array, like: Column | None = None) -> Column:
    """Of [n] strings, "" is missing: counts of the most frequent categories, ties by name; or of those that the column
    ``like`` counts."""
    found, counts = np.unique(np.asarray(values, str), return_counts=True)
    table = {str(k): int(c) for k, c in zip(found, counts, strict=True)}
    missing = table.pop("", 0)
    if like:
        return Column(
            name, "categorical", len(values), missing, categories={k: table.get(k, 0) for k in like.categories}
        )
    top = dict(sorted(table.items(), key=lambda item: (-item[1], item[0]))[:CATEGORIES])
    return Column(name, "categorical", len(values), missing, categories=top)


def sampled(column: Column, values: Array) -> Column:
    """The column with the bins of ``SAMPLE_ROWS`` of its values [n], at even distances: a byte each, the place in
    ``counts`` or among the sorted ``categories``; 254 is none of these, 255 missing."""
    picked = values[np.linspace(0, len(values) - 1, min(len(values), SAMPLE_ROWS)).astype(int)]
    if column.kind == "numeric":
        places = np.minimum(np.searchsorted(np.asarray(column.edges), picked, side="right"), _OTHER - 1)
        bins = np.where(np.isfinite(picked), places, _MISSING).astype(np.uint8)
    else:
        names = dict.fromkeys(_spelled(name) for name in sorted(column.categories))
        known = {name: min(place, _OTHER) for place, name in enumerate(names)} | {"": _MISSING}
        bins = np.array([known.get(_spelled(str(value)), _OTHER) for value in picked], np.uint8)
    return replace(column, sample=bins.tobytes())


def _spelled(category: str) -> str:
    """As the monitor reads it: booleans as in JSON."""
    return category.lower() if category in ("True", "False") else category
