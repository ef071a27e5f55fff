"""How often the monitor's verdicts on inputs alarm when nothing has changed, against the rate asked for.

    python tests/benchmarks/false_alarms.py [--windows 400] [--rate 0.05]

Columns in turn: normal, lognormal, Student t with 2 degrees of freedom, counts with ties, half zeros, with gaps, and
categories with a long tail; normal and lognormal ones hang together. References are drawn anew for every ten windows.
``alarms`` are windows with any test beyond chance (a warning or more); ``drift`` are windows with a test that would
count towards drift; ``joint`` are windows in which the classifier of joint drift, by itself, is beyond chance. The last
table plays the monitor's whole rule, two windows in a row, at its default rate of 1 %. Seeds are fixed. The last line
is one JSON object: alarms over the rate asked for.
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.reference import (
    Reference,
    ReferenceColumn,
    ReferenceSample,
    categorical_column,
    numeric_column,
)
from tidemill_monitoring.domain.sample import coded
from tidemill_monitoring.domain.verdict import Standing, test_columns, worst
from tidemill_monitoring.domain.window import RowWindow

CASES = (
    (50, 2_000, 10),
    (100, 2_000, 10),
    (500, 2_000, 10),
    (500, 20_000, 50),
    (2_000, 20_000, 10),
    (20_000, 100_000, 10),
)
"""Rows of the window and of the reference, columns."""
KINDS = ("normal", "lognormal", "student-2", "counts", "half-zeros", "gaps", "categories")


def draw(kind: str, rows: int, rng: np.random.Generator, common: np.ndarray) -> np.ndarray:
    """A quiet column of [rows], which hangs together with others by what is ``common`` to them (standard normal)."""
    normal = rng.normal(size=rows)
    if kind in ("normal", "lognormal"):
        normal = 0.6 * common + 0.8 * normal
    if kind == "categories":
        return np.minimum(rng.zipf(1.7, rows), 60).astype(str)
    if kind == "half-zeros":
        return np.where(rng.random(rows) < 0.5, 0.0, rng.exponential(size=rows))
    if kind == "gaps":
        return np.where(rng.random(rows) < 0.1, np.nan, normal)
    if kind == "counts":
        return rng.poisson(2, rows).astype(float)
    if kind == "lognormal":
        return np.exp(normal)
    # A normal over the root of a chi-squared with 2 degrees of freedom, halved: Student's t.
    return normal / np.sqrt(rng.exponential(size=rows)) if kind == "student-2" else normal


def rows_of(kinds: list[str], rows: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Columns [rows] each."""
    common = rng.normal(size=rows)
    return [draw(kind, rows, rng, common) for kind in kinds]


def reference_of(name: str, table: list[np.ndarray]) -> Reference:
    """As packaging makes it, with 1 000 of the rows as bins, of at most 32 columns."""
    columns = tuple(reference_column(f"c{i}", values) for i, values in enumerate(table))
    picked = np.linspace(0, len(table[0]) - 1, min(len(table[0]), 1_000)).astype(int)
    sampled = range(min(len(columns), 32))
    codes = [coded(columns[i], cells(columns[i], table[i][picked])) for i in sampled]
    sample = ReferenceSample(tuple(sampled), np.column_stack(codes))
    return Reference(name, columns, columns[0], 0.9, 1_000, sample=sample)


def cells(column: ReferenceColumn, values: np.ndarray) -> Any:
    """As the monitor takes them."""
    return values if column.kind == "numeric" else values.tolist()


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
            reference = reference_of(f"{seed}-{number}", rows_of(kinds, reference_rows, rng))
        window = RowWindow.empty(reference)
        table = [cells(c, v) for c, v in zip(reference.columns, rows_of(kinds, rows, rng), strict=True)]
        window.tally(reference, table, rows)
        window.sample.add(reference, table, rows)
        yield reference, window


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=400)
    parser.add_argument("--rate", type=float, default=0.05)
    options = parser.parse_args()
    print(f"asked for: {options.rate:.3f} of windows; {options.windows} windows a line")
    print(f"{'rows':>7} {'reference':>9} {'columns':>7} {'alarms':>7} {'drift':>7} {'joint':>7} {'insufficient':>12}")
    found = {}
    for rows, reference_rows, columns in CASES:
        share = shares(rows, reference_rows, columns, options)
        print(
            f"{rows:>7} {reference_rows:>9} {columns:>7} " + " ".join(f"{v:>7.3f}" for v in share.values()), flush=True
        )
        found[f"{rows} rows of {columns}"] = round(share["alarms"] / options.rate, 2)
    print("\ndrift verdicts in 200 quiet windows of 500 rows (default rate 0.01, two windows in a row)")
    drifts = {columns: drift_verdicts(columns) for columns in (10, 50)}
    for columns, count in drifts.items():
        print(f"{columns:>3} columns: {count}", flush=True)
    print(json.dumps({"alarms_over_asked": found, "drift_verdicts_in_200_windows": drifts}))


def shares(rows: int, reference_rows: int, columns: int, options: argparse.Namespace) -> dict[str, float]:
    """Of quiet windows those with any finding, with one that counts, with a joint one, and without an answer."""
    verdicts, joint, calibration = [], 0, Calibration()
    for reference, window in quiet(columns, rows, reference_rows, options.windows, seed=rows):
        tests = test_columns(reference, window, rate=options.rate, min_rows=100, calibration=calibration)
        verdicts.append(worst(tests, rows, 100))
        joint += any(t.test == "domain_classifier" and t.p_value <= options.rate for t in tests)
    share = {v: verdicts.count(v) / len(verdicts) for v in ("warning", "drift", "insufficient_data")}
    return {
        "alarms": share["warning"] + share["drift"],
        "drift": share["drift"],
        "joint": joint / len(verdicts),
        "insufficient_data": share["insufficient_data"],
    }


def drift_verdicts(columns: int) -> int:
    """Of 200 quiet windows those that the monitor's whole rule calls drift."""
    calibration, standing, found = Calibration(), Standing(), 0
    for reference, window in quiet(columns, 500, 5_000, 200, seed=columns):
        tests = test_columns(reference, window, rate=0.01, min_rows=100, calibration=calibration)
        found += standing.take(worst(tests, 500, 100), 2)[0] == "drift"
    return found


if __name__ == "__main__":
    main()
