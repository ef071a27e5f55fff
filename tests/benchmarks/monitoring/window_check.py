"""What a check of a window costs, beside the libraries people would take instead; and what a pipeline's state takes.

    python tests/benchmarks/monitoring/window_check.py [--rows 100000] [--runs 5] [--peers .peers] [--only nannyml-ks]

The peers live in environments of their own under ``--peers``; missing ones are made there (a few minutes, the network).
Ours and theirs get the same two tables, of 40 numeric and 10 string columns, and are measured in turn. ``whole``
includes what is prepared of the reference: bins and thresholds for us, fitting for them; ``check`` is what each further
window costs. Both are from columns; the last table is from events, row by row, as the service gets them, with all that
it does beside. The last line is one JSON object of ratios.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
from drift_peers import CATEGORIES, NUMERIC, window

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.counting import by_value
from tidemill_monitoring.domain.monitor import Champion, Monitor
from tidemill_monitoring.domain.outcome import Answer, AnsweredRow
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.reference import (
    Reference,
    ReferenceColumn,
    ReferenceSample,
    categorical_column,
    numeric_column,
)
from tidemill_monitoring.domain.sample import coded
from tidemill_monitoring.domain.verdict import test_columns
from tidemill_monitoring.domain.window import RowWindow

PEERS = {
    "nannyml": ["nannyml", "statsmodels"],
    "alibi-detect": ["alibi-detect"],
    "frouros": ["frouros", "pandas"],
    "evidently": ["evidently", "pandas<3"],
}
PEERS_SHOWN = ("nannyml-same", "nannyml-js", "nannyml-ks", "alibi-detect", "frouros", "evidently")
HERE = Path(__file__).resolve().parent


def cells(table: pd.DataFrame) -> list[Any]:
    """The table by column: arrays of numbers, Arrow arrays of strings."""
    return [*(table[n].to_numpy() for n in NUMERIC), *(pa.array(table[n], pa.large_string()) for n in CATEGORIES)]


def reference_of(table: pd.DataFrame) -> Reference:
    """What packaging makes: 20 bins at the quantiles, categories counted."""
    columns = cells(table)
    numbers, strings = columns[: len(NUMERIC)], columns[len(NUMERIC) :]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        made = (*threads.map(_numeric, NUMERIC, numbers), *threads.map(_categorical, CATEGORIES, strings))
    return Reference("digest", made, made[0], 0.9, 1_000)


def with_rows(reference: Reference, table: pd.DataFrame) -> Reference:
    """The reference with 1 000 rows of 32 columns, as a package brings them."""
    codes = [coded(c, v) for c, v in zip(reference.columns[:32], cells(table.iloc[:1_000]), strict=False)]
    return replace(reference, sample=ReferenceSample(tuple(range(32)), np.column_stack(codes)))


def _numeric(name: str, values: Any) -> ReferenceColumn:
    ordered = np.sort(values)
    edges = np.unique(np.quantile(ordered, np.linspace(0, 1, 21)[1:-1]))
    counts = np.diff([0, *np.searchsorted(ordered, edges, side="left"), len(ordered)])
    limits = (float(ordered[0]), float(ordered[-1]))
    std = float(values.std())
    return numeric_column(name, len(values), 0, edges.tolist(), counts.tolist(), limits, std, 0.02, 3)


def _categorical(name: str, values: Any) -> ReferenceColumn:
    return categorical_column(name, len(values), 0, by_value(values), 0.02)


def check(reference: Reference, table: pd.DataFrame, rows: int, calibration: Calibration) -> list[Any]:
    """Count a window and judge every column."""
    counted = RowWindow.empty(reference)
    counted.tally(reference, cells(table), rows)
    return test_columns(reference, counted, rate=0.01, min_rows=100, calibration=calibration)


def ours(rows: int, runs: int) -> dict[str, Any]:
    """Seconds of each run, and how many of the ten moved columns were found and of the others were not."""
    before, now = window(rows, 0, shifted=False), window(rows, 1, shifted=True)
    whole, alone = [], []
    for _ in range(runs):
        started = time.perf_counter()
        calibration, reference = Calibration(), reference_of(before)
        tests = check(reference, now, rows, calibration)
        whole.append(time.perf_counter() - started)
        started = time.perf_counter()
        check(reference, now, rows, calibration)
        alone.append(time.perf_counter() - started)
    found = {t.name for t in tests if t.verdict in ("warning", "drift")}
    moved = {*NUMERIC[:8], *list(CATEGORIES)[:2]}
    return {"whole": whole, "check": alone, "found": len(found & moved), "false": len(found - moved)}


def peer(name: str, rows: int, runs: int, environments: Path) -> dict[str, Any] | None:
    """Another library's run, in its environment; None when that cannot be had."""
    package = "nannyml" if name.startswith("nannyml") else name
    home = environments / package
    python = home / "bin" / "python"
    if not python.exists():
        print(f"installing {package} into {home}", file=sys.stderr)
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS[package]], check=True)
    words = [str(python), str(HERE / "drift_peers.py"), name, str(rows), str(runs)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        print(f"{name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def state() -> dict[str, Any]:
    """The stored state and the process's memory, after more and more rows of 50 columns, in windows of 20 000."""
    found: dict[str, Any] = {}
    table, part = window(20_000, 0, shifted=False), window(10_000, 2, shifted=False)
    before = with_rows(reference_of(table), table)
    champion = Champion("0" * 12, 1, before)
    policy = Policy(True, "accuracy", True, 20_000, 100, 0.01, 2, 0.05, 0.95)
    monitor = Monitor.new(policy, Calibration())
    answer = Answer(True, (0.1, 0.9), (False, True), champion.version, "")
    rows = [AnsweredRow(str(n), row, float(n), answer) for n, row in enumerate(part.to_dict("records"))]
    print(f"\n{'rows':>9} {'state kB':>9} {'memory MB':>10} {'µs a row':>9}")
    seen = 0
    for until in (10_000, 100_000, 1_000_000):
        started, already = time.process_time(), seen
        while seen < until:
            for at in range(0, len(rows), 500):
                monitor.answered(rows[at : at + 500], {champion.version: champion})
            seen += len(rows)
        size, memory = len(orjson.dumps(monitor.dump())) / 1e3, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        cost = (time.process_time() - started) / (seen - already) * 1e6
        print(f"{seen:>9} {size:>9.1f} {memory:>10.1f} {cost:>9.1f}", flush=True)
        found[str(seen)] = {"state_kb": round(size, 1), "resident_mb": round(memory, 1), "us_a_row": round(cost, 1)}
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peers", type=Path, default=Path(".peers"))
    parser.add_argument("--only", action="append")
    options = parser.parse_args()
    print(f"{options.rows} rows, 40 numeric and 10 categorical columns; medians of {options.runs}")
    mine = ours(options.rows, options.runs)
    print(f"found {mine['found']} of 10 moved columns, {mine['false']} others")
    best = {kind: statistics.median(mine[kind]) for kind in ("whole", "check")}
    print(f"{'':<14} {'whole s':>9} {'ratio':>7} {'check s':>9} {'ratio':>7}")
    print(f"{'tidemill':<14} {best['whole']:>9.3f} {1:>7} {best['check']:>9.4f} {1:>7}")
    rates = {}
    for name in options.only or PEERS_SHOWN:
        rate = beside(name, best, options)
        if rate:
            rates[name] = rate
    shown = {kind: round(seconds, 4) for kind, seconds in best.items()}
    print(json.dumps({"seconds": shown, "missed": 10 - mine["found"], "times_ours": rates, "rows": state()}))


def beside(name: str, best: dict[str, float], options: argparse.Namespace) -> dict[str, float] | None:
    """What a peer takes, as multiples of ours, measured again after it."""
    found = peer(name, options.rows, 2 if name == "evidently" else options.runs, options.peers)
    if found is None:
        return None
    again = ours(options.rows, options.runs)
    cost = {kind: statistics.median(found[kind]) for kind in best}
    rates = {kind: cost[kind] / statistics.mean([best[kind], statistics.median(again[kind])]) for kind in best}
    print(
        f"{name:<14} {cost['whole']:>9.3f} {rates['whole']:>7.1f} {cost['check']:>9.3f} {rates['check']:>7.1f}",
        flush=True,
    )
    return {kind: round(rate, 1) for kind, rate in rates.items()}


if __name__ == "__main__":
    main()
