"""What the champion was trained on, as the monitor compares with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from tidemill_monitoring.domain.divergence import Counts

Kind = Literal["numeric", "categorical"]
_ERRORS = 2.0
"""Standard errors above zero from which a column's importance is beyond chance."""
OTHER, MISSING = 254, 255
"""Of a sampled cell: no bin of its own, and nothing at all."""


@dataclass(frozen=True, slots=True)
class ReferenceColumn:
    """A column of the training rows: counts between fixed edges, or by category."""

    name: str
    kind: Kind
    rows: int
    missing: int
    edges: npt.NDArray[np.float64]
    """Numeric: ascending; bin i holds edges[i-1] <= x < edges[i], the outer bins are open."""
    categories: Mapping[str, int]
    """Categorical: position of each known category in ``counts``."""
    counts: Counts
    minimum: float | None = None
    maximum: float | None = None
    """Numeric: the range of the reference."""
    std: float = 0.0
    """Numeric: standard deviation."""
    importance: float | None = None
    """Share of the model's importance that is surely this column's; None: not known."""
    magnitude: float | None = None
    """Numeric: mean of log10 of the absolute values other than zero, and their standard deviation, by bins."""
    spread: float = 0.0
    longest_run: int | None = None
    """Numeric: the most rows in a row with one number; None: not known."""
    widths: Counts | None = None
    """Numeric: of the bins from the minimum over the edges to the maximum, in standard deviations; None: no range."""
    outside: int | None = None
    """Numeric: rows beyond the range of the training rows, of other rows than these; None: not counted."""
    present: int = field(init=False)
    """Rows with a value."""
    unlisted: int = field(init=False)
    """Rows to expect that the training rows would not know: values beyond their range (one on each side would lie
    there; of other rows those that did), or of no listed category: those too rare to be listed, and as many again as
    there are categories seen once (Good 1953)."""

    def __post_init__(self) -> None:
        present = int(self.counts.sum())
        rare = max(0, self.rows - self.missing - present) + int((self.counts == 1).sum())
        object.__setattr__(self, "present", present)
        beyond = 2 if self.outside is None else self.outside
        object.__setattr__(self, "unlisted", beyond if self.kind == "numeric" else rare)


@dataclass(frozen=True, slots=True)
class ReferenceSample:
    """Some rows behind a reference, as bins."""

    columns: tuple[int, ...]
    """Positions among the reference's columns."""
    codes: npt.NDArray[np.uint8]
    """[rows, these columns]: the place of the cell's bin or category in the column's counts, or one of the above."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference window of one model. ``digest`` identifies it in caches."""

    digest: str
    columns: tuple[ReferenceColumn, ...]
    prediction: ReferenceColumn
    score: float
    """The primary metric on rows held out in training."""
    score_rows: int
    target_scale: float = 1.0
    """Standard deviation of the target, for errors of a regression."""
    validation: tuple[ReferenceColumn, ...] = ()
    """The same columns over rows that the model has not seen; empty: not known."""
    sample: ReferenceSample | None = None


def importance_shares(found: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Each column's share of the model's importance, from its estimate and standard error.

    What could be chance is left out: an idle column's estimate is not zero but close to it, and a share of a hundredth
    is easily reached that way. Empty where nothing is beyond chance: then no column is known to be idle.
    """
    total = sum(max(mean, 0.0) for mean, _ in found.values())
    sure = {name: max(mean - _ERRORS * error, 0.0) for name, (mean, error) in found.items()}
    return {name: value / total for name, value in sure.items()} if any(sure.values()) else {}


def numeric_column(
    name: str,
    rows: int,
    missing: int,
    edges: list[float],
    counts: list[int],
    limits: tuple[float, float] | None = None,
    std: float = 0.0,
    importance: float | None = None,
    longest_run: int | None = None,
    outside: int | None = None,
) -> ReferenceColumn:
    """A numeric reference; ``counts`` has one more entry than ``edges``, ``limits`` are its smallest and largest
    value, ``outside`` counts those beyond the limits of the training rows where these are others."""
    low, high = limits or (None, None)
    bins, cells = np.asarray(edges, np.float64), np.asarray(counts, np.float64)
    magnitude, spread = _magnitude(bins, cells)
    places = [] if low is None or high is None else [low, *edges, high]
    widths = np.diff(places) / std if places and std > 0 else None
    facts = (low, high, std, importance, magnitude, spread, longest_run, widths, outside)
    return ReferenceColumn(name, "numeric", rows, missing, bins, {}, cells, *facts)


def _magnitude(edges: npt.NDArray[np.float64], counts: Counts) -> tuple[float | None, float]:
    """Mean and standard deviation of log10 of the sizes: each bin at the middle of its edges, the outer ones at one."""
    if not len(edges):
        return None, 0.0
    places = np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])
    known = (places != 0) & (counts > 0)
    if not known.any():
        return None, 0.0
    logs, weights = np.log10(np.abs(places[known])), counts[known]
    mean = float(np.average(logs, weights=weights))
    return mean, float(np.sqrt(np.average((logs - mean) ** 2, weights=weights)))


def categorical_column(
    name: str, rows: int, missing: int, categories: Mapping[str, int], importance: float | None = None
) -> ReferenceColumn:
    """A categorical reference from the rows of each category."""
    sums: dict[str, int] = {}
    for category in sorted(categories):
        key = category_key(category)
        sums[key] = sums.get(key, 0) + categories[category]
    positions = {key: i for i, key in enumerate(sums)}
    counts = np.asarray(list(sums.values()), np.float64)
    return ReferenceColumn(name, "categorical", rows, missing, np.empty(0), positions, counts, importance=importance)


def category_key(value: object) -> str:
    """A cell as a category. Booleans are spelled as in JSON, whoever turned them into text."""
    text = str(value)
    return text.lower() if text in ("True", "False") else text
