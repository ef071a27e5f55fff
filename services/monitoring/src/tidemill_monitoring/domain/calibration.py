"""Thresholds that hold the false-alarm rate asked for, from the reference and the sizes of both samples."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tidemill_monitoring.domain.divergence import LINEAR, Counts, Distance, Measure

DRAWS = 2_000
_GRID = 1.05


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
        from scipy.special import gammainccinv  # here, because a monitor without references need not load it

        tail = float(gammainccinv(self.shape, rate)) * self.scale
        if rate * len(self.draws) >= 20:
            tail = float(np.quantile(self.draws, 1 - rate))
        return math.sqrt(tail) if self.squared else tail

    def p_value(self, statistic: float) -> float:
        """Probability of at least this value when nothing has changed."""
        from scipy.special import gammaincc

        value = statistic**2 if self.squared else statistic
        above = len(self.draws) - int(np.searchsorted(self.draws, value, side="left"))
        if above >= 20:
            return above / len(self.draws)
        return float(gammaincc(self.shape, value / self.scale))


def null_distributions(
    distances: Mapping[Measure, Distance], reference: Counts, rows: int, seed: int = 0
) -> dict[Measure, NullDistribution]:
    """Parametric bootstrap: both samples drawn from the reference's own shares, at their real sizes.

    Drawing the reference anew too is what keeps a small reference from raising alarms: E[PSI] is about
    (bins - 1)(1/n + 1/m). PSI and the squares of the other distances are sums of squares of nearly normal variables,
    so a gamma law with the draws' mean and variance (Satterthwaite 1946) extends them into the tail.
    """
    rng = np.random.default_rng(seed)
    size = int(reference.sum())
    smoothed = (reference + 0.5) / (reference + 0.5).sum()
    first = rng.multinomial(size, smoothed, size=DRAWS).astype(np.float64)
    second = rng.multinomial(rows, smoothed, size=DRAWS).astype(np.float64)
    return {measure: _fitted(distance(first, second), measure in LINEAR) for measure, distance in distances.items()}


def _fitted(values: Counts, squared: bool) -> NullDistribution:
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
            known = self._known[(key, size)] = null_distributions(distances, reference, max(size, 1))
        return known
