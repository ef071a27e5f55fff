"""How often the monitor's verdicts on inputs alarm when nothing has changed, against the rate asked for.

    python tests/benchmarks/false_alarms.py [--windows 200] [--rate 0.05]

Columns in turn: normal, lognormal, Student t with 2 degrees of freedom, counts with ties, half zeros, with gaps, and
categories with a long tail. References are drawn anew for every ten windows. ``alarms`` are windows with any test
beyond chance (a warning or more); ``drift`` are windows with a test that would count towards drift; the last table
plays the monitor's whole rule, two windows in a row, at its default rate of 1 %. Seeds are fixed.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.reference import Reference, ReferenceColumn, categorical_column, numeric_column
from tidemill_monitoring.domain.verdict import Standing, test_columns, worst
from tidemill_monitoring.domain.window import RowWindow

KINDS = ("normal", "lognormal", "student-2", "counts", "half-zeros", "gaps", "categories")


def draw(kind: str, rows: int, rng: np.random.Generator) -> np.ndarray:
    """A quiet column of [rows]."""
    if kind == "categories":
        return np.minimum(rng.zipf(1.7, rows), 60).astype(str)
    if kind == "half-zeros":
        return np.where(rng.random(rows) < 0.5, 0.0, rng.exponential(size=rows))
    if kind == "gaps":
        return np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows))
    if kind == "counts":
        return rng.poisson(2, rows).astype(float)
    makers = {"normal": rng.normal, "lognormal": rng.lognormal, "student-2": lambda size: rng.standard_t(2, size)}
    return np.asarray(makers[kind](size=rows))


def reference_column(name: str, values: np.ndarray) -> ReferenceColumn:
    """As packaging makes it: 20 bins at the quantiles, 200 categories."""
    if values.dtype.kind == "U":
        found, counts = np.unique(values, return_counts=True)
        return categorical_column(name, len(values), 0, dict(zip(found.tolist(), counts.tolist(), strict=True)))
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, 21)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
    limits = (float(known.min()), float(known.max()))
    missing = len(values) - len(known)
    return numeric_column(name, len(values), missing, edges.tolist(), counts.tolist(), limits, float(known.std()))


def quiet(
    columns: int, rows: int, reference_rows: int, windows: int, seed: int
) -> Iterator[tuple[Reference, RowWindow]]:
    """Windows without any drift; the first of every ten comes with a new reference."""
    rng = np.random.default_rng(seed)
    kinds = [KINDS[i % len(KINDS)] for i in range(columns)]
    for number in range(windows):
        if number % 10 == 0:
            made = tuple(reference_column(f"c{i}", draw(k, reference_rows, rng)) for i, k in enumerate(kinds))
            reference = Reference(f"{seed}-{number}", made, made[0], 0.9, 1_000)
        window = RowWindow.empty(reference)
        for counts, column, kind in zip(window.columns, reference.columns, kinds, strict=True):
            values = draw(kind, rows, rng)
            if column.kind == "numeric":
                counts.add_numbers(column, values)
            else:
                counts.add(column, values.tolist())
        window.rows = rows
        yield reference, window


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.05)
    options = parser.parse_args()
    print(f"asked for: {options.rate:.3f} of windows; {options.windows} windows a line")
    print(f"{'rows':>7} {'reference':>9} {'columns':>7} {'alarms':>7} {'drift':>7} {'insufficient':>12}")
    for rows, reference_rows, columns in (
        (50, 2_000, 10),
        (100, 2_000, 10),
        (500, 2_000, 10),
        (500, 20_000, 50),
        (2_000, 20_000, 10),
        (20_000, 100_000, 10),
    ):
        verdicts = []
        calibration = Calibration()
        for reference, window in quiet(columns, rows, reference_rows, options.windows, seed=rows):
            tests = test_columns(reference, window, rate=options.rate, min_rows=100, calibration=calibration)
            verdicts.append(worst(tests, rows, 100))
        share = {v: verdicts.count(v) / len(verdicts) for v in ("warning", "drift", "insufficient_data")}
        alarms = share["warning"] + share["drift"]
        print(
            f"{rows:>7} {reference_rows:>9} {columns:>7} {alarms:>7.3f} {share['drift']:>7.3f} "
            f"{share['insufficient_data']:>12.3f}",
            flush=True,
        )
    print("\ndrift verdicts in 200 quiet windows of 500 rows (default rate 0.01, two windows in a row)")
    for columns in (10, 50):
        calibration, standing = Calibration(), Standing()
        found = 0
        for reference, window in quiet(columns, 500, 5_000, 200, seed=columns):
            tests = test_columns(reference, window, rate=0.01, min_rows=100, calibration=calibration)
            found += standing.take(worst(tests, 500, 100), 2)[0] == "drift"
        print(f"{columns:>3} columns: {found}", flush=True)


if __name__ == "__main__":
    main()
