"""Distances between two binned samples. All take counts and work along the last axis."""

from typing import Literal

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.float64]
Measure = Literal["psi", "jensen_shannon"]


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


def measured(measure: Measure, reference: Counts, current: Counts) -> Counts:
    """The distance by name."""
    return psi(reference, current) if measure == "psi" else jensen_shannon(reference, current)
