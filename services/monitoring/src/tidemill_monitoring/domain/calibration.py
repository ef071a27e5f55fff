"""Thresholds that hold the false-alarm rate asked for, from the reference and the sizes of both samples."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np

from tidemill_monitoring.domain.divergence import LINEAR, Counts, Distance, Measure, Wasserstein, between

DRAWS = 2_000
_ENOUGH = 20
"""Draws beyond a value that tell how likely it is."""
_GRID = 1.05
_DRAWN = 4
"""Draws kept for columns that may have the same counts: 0.6 MB each at 20 bins."""


@dataclass(frozen=True, slots=True)
class NullDistribution:
    """The squared distance (or the PSI) when nothing has changed: draws, and the gamma law fitted to them."""

    draws: Counts
    """Sorted."""
    shape: float
    scale: float
    squared: bool

    def threshold(self, rate: float) -> float:
        """The value exceeded with probability ``rate``: a quantile of the draws, beyond them of the gamma law."""
        tail = _exceeded(self.shape, rate) * self.scale
        if rate * len(self.draws) >= _ENOUGH:
            tail = float(np.quantile(self.draws, 1 - rate))
        return math.sqrt(tail) if self.squared else tail

    def p_value(self, statistic: float) -> float:
        """Probability of at least this value when nothing has changed."""
        value = statistic**2 if self.squared else statistic
        above = len(self.draws) - int(self.draws.searchsorted(value))
        if above >= _ENOUGH:
            return above / len(self.draws)
        return float(_tail()(self.shape, value / self.scale))


@lru_cache(4_096)
def _exceeded(shape: float, rate: float) -> float:
    """What a gamma variable of scale 1 exceeds with probability ``rate``; the same for window after window."""
    from scipy.special import gammainccinv  # here, because a monitor without references need not load it

    return float(gammainccinv(shape, rate))


@cache
def _tail() -> Any:
    """The probability that a gamma variable of scale 1, of a shape, exceeds a value."""
    from scipy.special import gammaincc

    return gammaincc


class Draws:
    """Parametric bootstrap: pairs of samples drawn from the reference's own shares, at their real sizes.

    Drawing the reference anew too is what keeps a small reference from raising alarms: E[PSI] is about
    (B - 1)(1/n + 1/m), whatever the window. Half a row is added to each bin, as when comparing. A distance squared and
    the PSI are sums of squares of nearly normal variables, so a gamma law with the draws' mean and variance
    (Satterthwaite 1946) extends them into the tail. Columns with the same counts share their draws.
    """

    def __init__(self, reference: Counts, rows: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        smoothed = (reference + 0.5) / (reference + 0.5).sum()
        self._first = rng.multinomial(int(reference.sum()), smoothed, size=DRAWS).astype(np.float64)
        self._second = rng.multinomial(rows, smoothed, size=DRAWS).astype(np.float64)
        self._fitted: dict[Measure, NullDistribution] = {}

    def null(self, measure: Measure, distance: Distance) -> NullDistribution:
        """The distribution of a distance when nothing has changed."""
        if isinstance(distance, Wasserstein):
            return _fitted(distance.area(self._between), squared=True)
        if measure not in self._fitted:
            self._fitted[measure] = _fitted(distance(self._first, self._second), squared=measure in LINEAR)
        return self._fitted[measure]

    @cached_property
    def _between(self) -> Counts:
        return between(self._first, self._second)


def _fitted(values: Counts, *, squared: bool) -> NullDistribution:
    draws = np.sort(values**2 if squared else values)
    mean, variance = float(draws.mean()), float(draws.var())
    # One bin leaves nothing to vary; the law is then a point at zero.
    shape, scale = (mean**2 / variance, variance / mean) if variance > 0 else (1.0, 1e-12)
    return NullDistribution(draws, shape, scale, squared)


@dataclass(slots=True)
class Calibration:
    """Null distributions by column and sample size, computed once each."""

    limit: int = 512
    _known: dict[tuple[str, int], dict[Measure, NullDistribution]] = field(default_factory=dict)
    _draws: dict[tuple[bytes, int], Draws] = field(default_factory=dict)
    """The latest few, by counts and sample size."""

    def of(
        self, key: str, distances: Mapping[Measure, Distance], reference: Counts, rows: int
    ) -> dict[Measure, NullDistribution]:
        """The distributions for ``rows`` current rows; ``key`` names the reference column (digest and name).

        Sizes are rounded down to a 5 % grid, which errs towards fewer alarms.
        """
        size = int(_GRID ** math.floor(math.log(rows) / math.log(_GRID) + 1e-9))
        known = self._known.get((key, size))
        if known is None:
            if len(self._known) >= self.limit:
                self._known.clear()
            draws = self._drawn(reference, max(size, 1))
            known = self._known[(key, size)] = {m: draws.null(m, distance) for m, distance in distances.items()}
        return known

    def _drawn(self, reference: Counts, rows: int) -> Draws:
        key = (reference.tobytes(), rows)
        found = self._draws.pop(key, None) or Draws(reference, rows)
        while len(self._draws) >= _DRAWN:
            del self._draws[next(iter(self._draws))]
        self._draws[key] = found
        return found
