"""The tests of one column: how far it is from its reference, and how likely that is by chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tidemill_monitoring.domain.calibration import Calibration, NullDistribution
from tidemill_monitoring.domain.divergence import (
    Distance,
    Measure,
    Wasserstein,
    chi_squared,
    jensen_shannon,
    kolmogorov_smirnov,
    psi,
)
from tidemill_monitoring.domain.joint import NormalNull, Side, told_apart
from tidemill_monitoring.domain.proportion import increase_p_value, significant_from
from tidemill_monitoring.domain.reference import Reference, ReferenceColumn, numeric_column
from tidemill_monitoring.domain.window import ColumnCounts, RowWindow

Verdict = Literal["insufficient_data", "stable", "warning", "drift"]
EFFECT_FLOOR = {
    "psi": 0.1,
    "jensen_shannon": 0.1,
    "kolmogorov_smirnov": 0.1,
    "wasserstein": 0.25,
    "chi_squared": 0.25,
    "missing_rate": 0.05,
    "unseen_rate": 0.01,
    "range_rate": 0.01,
    "domain_classifier": 0.2,
}
"""A smaller effect is at most a warning, however significant. 0.1 is the customary "minor" PSI; a shift of a quarter of
a standard deviation has a Kolmogorov-Smirnov distance of 0.1, and a PSI of 0.06. A classifier with an effect of 0.2 has
an AUC of 0.6."""
IMPACT_FLOOR = 0.01
"""Drift of a column with a smaller share of the model's importance is at most a warning."""


@dataclass(frozen=True, slots=True)
class Test:
    """One test of one column."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    name: str
    test: str
    statistic: float
    threshold: float
    p_value: float
    effect: float
    reference_rows: int
    current_rows: int
    verdict: Verdict
    severity: float | None = None
    """Effect over its floor, times the column's share of the model's importance; None: importance is not known."""
    pair: tuple[str, ...] = ()
    """Of a joint test: the two columns it shows in most."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it is about."""
        return self.pair or (self.name,)


@dataclass(slots=True)
class Measured:
    """A test before the correction over all tests of its window."""

    column: ReferenceColumn
    test: str
    statistic: float
    effect: float
    p_value: float
    reference_rows: int
    current_rows: int
    null: NullDistribution | NormalNull | tuple[int, int] | None
    """Where its threshold comes from: a distribution, or cases and rows of the reference. None: too few
    rows to say anything."""
    pair: tuple[str, ...] = ()

    @property
    def enough(self) -> bool:
        """Whether there were rows enough to judge by."""
        return self.null is not None

    def judged(self, cut: float) -> Test:
        """The verdict, with p-values up to ``cut`` beyond chance."""
        importance = self.column.importance
        severity = None if importance is None else max(self.effect, 0.0) / EFFECT_FLOOR[self.test] * importance
        return Test(
            self.column.name,
            self.test,
            self.statistic,
            self._threshold(cut),
            self.p_value,
            self.effect,
            self.reference_rows,
            self.current_rows,
            self._verdict(cut),
            severity,
            self.pair,
        )

    def _verdict(self, cut: float) -> Verdict:
        if self.null is None:
            return "insufficient_data"
        if self.p_value > cut:
            return "stable"
        importance = self.column.importance
        matters = importance is None or importance >= IMPACT_FLOOR
        return "drift" if matters and self.effect >= EFFECT_FLOOR[self.test] else "warning"

    def _threshold(self, cut: float) -> float:
        if isinstance(self.null, NullDistribution | NormalNull):
            return self.null.threshold(cut)
        if self.null is None:
            return 0.0
        # Searching the threshold costs a dozen tails, so a share that did not grow is spared it.
        return significant_from(*self.null, self.current_rows, cut) if self.statistic else 1.0


def distances_of(column: ReferenceColumn) -> Mapping[Measure, Distance]:
    """The distances a column of this kind is judged by."""
    if column.kind == "categorical":
        return {"jensen_shannon": jensen_shannon, "chi_squared": chi_squared}
    found: dict[Measure, Distance] = {"psi": psi, "kolmogorov_smirnov": kolmogorov_smirnov}
    if column.widths is not None:
        found["wasserstein"] = Wasserstein(column.widths)
    return found


Pair = tuple[ReferenceColumn, ColumnCounts]


def shape_tests(digest: str, pairs: Sequence[Pair], min_rows: int, calibration: Calibration) -> list[Measured]:
    """The distances between the shapes of columns, against their distribution without drift at these sizes."""
    found: list[Measured] = []
    alike: dict[tuple[str, ...], list[tuple[Pair, Mapping[Measure, Distance]]]] = {}
    for column, counts in pairs:
        distances, rows = distances_of(column), sum(counts.counts)
        if min(rows, column.present) < min_rows or len(counts.counts) < 2:
            found += [Measured(column, name, 0.0, 0.0, 1.0, column.present, rows, None) for name in distances]
        else:
            kind = (*distances, str(len(counts.counts)))
            alike.setdefault(kind, []).append(((column, counts), distances))
    for group in alike.values():
        found += _compared(digest, group, calibration)
    return found


def _compared(
    digest: str, group: Sequence[tuple[Pair, Mapping[Measure, Distance]]], calibration: Calibration
) -> list[Measured]:
    """Columns that have the same distances and as many bins, all at once: fifty calls cost fifty times one."""
    before = np.stack([column.counts for (column, _), _ in group])
    now = np.array([counts.counts for (_, counts), _ in group], np.float64)
    values = {name: _together([d[name] for _, d in group])(before, now).tolist() for name in group[0][1]}
    found = []
    for at, ((column, counts), distances) in enumerate(group):
        rows = sum(counts.counts)
        nulls = calibration.of(f"{digest}:{column.name}", distances, column.counts, rows)
        for name in distances:
            value = values[name][at]
            p_value = nulls[name].p_value(value)
            found.append(Measured(column, name, value, value, p_value, column.present, rows, nulls[name]))
    return found


def _together(distances: Sequence[Distance]) -> Distance:
    """One distance over [columns, bins]; only the Wasserstein distance differs between columns."""
    widths = [d.widths for d in distances if isinstance(d, Wasserstein)]
    return Wasserstein(np.stack(widths)) if widths else distances[0]


def joint_tests(reference: Reference, window: RowWindow, min_rows: int) -> list[Measured]:
    """Whether the columns hang together as in the reference's sample; nothing where there is no sample.

    Columns that matter little to the model, or are broken, are left out.
    """
    sample = reference.sample
    if sample is None or not window.sample.rows:
        return []
    chosen = [at for at, column in enumerate(sample.columns) if _weighs(reference.columns[column], window.muted)]
    columns = [reference.columns[sample.columns[at]] for at in chosen]
    counts = [np.asarray(window.columns[sample.columns[at]].counts, np.float64) for at in chosen]
    before, now = sample.codes[:, chosen], window.sample.codes[:, chosen]
    if min(len(before), len(now)) < min_rows:
        return []
    told = told_apart(columns, Side(before, [c.counts for c in columns]), Side(now, counts))
    if told is None:
        return []
    a, b = (columns[at] for at in told.pair)
    known = a.importance is not None and b.importance is not None
    importance = (a.importance or 0.0) + (b.importance or 0.0) if known else None
    names = (a.name, b.name)
    both = numeric_column(" & ".join(names), len(before), 0, [], [len(before)], importance=importance)
    effect, p_value = told.statistic, told.null.p_value(told.statistic)
    return [Measured(both, "domain_classifier", effect, effect, p_value, len(before), len(now), told.null, names)]


def _weighs(column: ReferenceColumn, muted: Sequence[str]) -> bool:
    return column.name not in muted and (column.importance is None or column.importance >= IMPACT_FLOOR)


def share_tests(column: ReferenceColumn, counts: ColumnCounts, rows: int, min_rows: int) -> list[Measured]:
    """Missing cells, and values the reference does not have: Fisher's exact test of an increase."""
    found = [_share(column, "missing_rate", column.missing, counts.missing, rows, min_rows)]
    if column.kind == "categorical":
        found.append(_share(column, "unseen_rate", column.unlisted, counts.unseen, rows, min_rows))
    elif column.minimum is not None:
        found.append(_share(column, "range_rate", column.unlisted, counts.unseen, rows, min_rows))
    return found


def _share(column: ReferenceColumn, test: str, before: int, now: int, rows: int, min_rows: int) -> Measured:
    if min(rows, column.rows) < min_rows:
        return Measured(column, test, 0.0, 0.0, 1.0, column.rows, rows, None)
    p_value = increase_p_value(before, column.rows, now, rows)
    effect = now / rows - before / column.rows
    return Measured(column, test, now / rows, effect, p_value, column.rows, rows, (before, column.rows))
