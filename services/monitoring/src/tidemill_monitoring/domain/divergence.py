"""Distances between two binned samples. All take counts and work along the last axis."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.float64]
Measure = Literal["psi", "jensen_shannon", "kolmogorov_smirnov", "wasserstein", "chi_squared"]
Distance = Callable[[Counts, Counts], Counts]
LINEAR: frozenset[Measure] = frozenset({"jensen_shannon", "kolmogorov_smirnov", "wasserstein", "chi_squared"})
"""Measures whose squares, without drift, behave like sums of squares of normal variables; PSI is such a sum itself."""


def shares(counts: Counts) -> Counts:
    """Relative frequencies, with half a row added to each bin so that empty bins stay finite (Jeffreys)."""
    smoothed = counts + 0.5
    return np.asarray(smoothed / smoothed.sum(axis=-1, keepdims=True), np.float64)


def psi(reference: Counts, current: Counts) -> Counts:
    """Population stability index: sum of (p - q) ln(p / q); 0 for equal shares (Siddiqi, Credit Risk Scorecards).

    Without drift its mean is about (bins - 1)(1/n + 1/m) for samples of n and m rows.
    """
    p, q = shares(reference), shares(current)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def jensen_shannon(reference: Counts, current: Counts) -> Counts:
    """Jensen-Shannon distance, base 2, between 0 and 1 (Lin 1991; Endres & Schindelin 2003)."""
    p, q = shares(reference), shares(current)
    middle = (p + q) / 2
    divergence = (p * np.log2(p / middle) + q * np.log2(q / middle)).sum(axis=-1) / 2
    return np.asarray(np.sqrt(np.maximum(divergence, 0.0)))


def kolmogorov_smirnov(reference: Counts, current: Counts) -> Counts:
    """Largest difference of the two distribution functions at the edges, between 0 and 1."""
    return np.asarray(np.abs(_gap(reference, current)).max(axis=-1, initial=0.0))


@dataclass(frozen=True, slots=True)
class Wasserstein:
    """The distance of order 1 in standard deviations: area between the distribution functions, by trapezoids.

    ``widths`` [..., bins], in standard deviations, run from the reference's minimum over the edges to its maximum:
    values beyond these count as lying on them.
    """

    widths: Counts

    def __call__(self, reference: Counts, current: Counts) -> Counts:
        """The distance between counts."""
        return self.area(between(reference, current))

    def area(self, heights: Counts) -> Counts:
        """The distance, given what ``between`` found."""
        return np.asarray((heights * (self.widths / 2)).sum(axis=-1))


def between(reference: Counts, current: Counts) -> Counts:
    """For each bin the difference of the distribution functions at its two ends, added up."""
    gap = np.abs(_gap(reference, current))
    ends = np.zeros((*gap.shape[:-1], 1))
    heights = np.concatenate([ends, gap, ends], axis=-1)
    return np.asarray(heights[..., 1:] + heights[..., :-1])


def chi_squared(reference: Counts, current: Counts) -> Counts:
    """Cohen's w, the effect size of the chi-squared test of homogeneity: the root of chi-squared for shares."""
    p = reference / np.maximum(reference.sum(axis=-1, keepdims=True), 1)
    q = current / np.maximum(current.sum(axis=-1, keepdims=True), 1)
    middle = (p + q) / 2
    return np.asarray(np.sqrt(((p - q) ** 2 / np.where(middle > 0, middle, 1.0)).sum(axis=-1)))


def _gap(reference: Counts, current: Counts) -> Counts:
    """Difference of the distribution functions at the inner edges."""
    return np.asarray(_below(current) - _below(reference))


def _below(counts: Counts) -> Counts:
    return np.asarray(np.cumsum(counts, axis=-1)[..., :-1] / np.maximum(counts.sum(axis=-1, keepdims=True), 1))
