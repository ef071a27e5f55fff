"""One library's drift check of a window, in an environment of its own; run by window_check.py.

    python drift_peers.py LIBRARY ROWS RUNS

Prints one JSON object: seconds of each run with what the library prepares of the reference (``whole``) and, where it
keeps that, without (``check``). Needs numpy, pandas and the library; nothing of Tidemill.
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

warnings.filterwarnings("ignore")
NUMERIC = [f"n{i}" for i in range(40)]
CATEGORIES = dict(zip((f"c{i}" for i in range(10)), (3, 5, 8, 10, 12, 15, 20, 30, 40, 50), strict=True))
Steps = tuple[Callable[[], Any], Callable[[Any], Any]]


def window(rows: int, seed: int, *, shifted: bool) -> pd.DataFrame:
    """40 numeric columns (normal and lognormal) and 10 of strings; where shifted, 8 and 2 of them have moved."""
    rng = np.random.default_rng(seed)
    table: dict[str, Any] = {}
    for i, name in enumerate(NUMERIC):
        values = rng.normal(size=rows) if i % 3 else np.exp(rng.normal(size=rows))
        table[name] = values + 0.1 if shifted and i < 8 else values
    for i, (name, count) in enumerate(CATEGORIES.items()):
        shares = np.linspace(0.8, 1.2, count) if shifted and i < 2 else np.ones(count)
        levels = np.array([f"v{i}_{j}" for j in range(count)], dtype=object)
        table[name] = levels[rng.choice(count, rows, p=shares / shares.sum())]
    return pd.DataFrame(table)


def _nannyml(numeric: list[str], categorical: list[str], reference: pd.DataFrame, current: pd.DataFrame) -> Steps:
    """One chunk; these methods."""
    # Else a report of each call is sent over the network, and waited for.
    os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
    from nannyml import UnivariateDriftCalculator

    def prepare() -> Any:
        calculator = UnivariateDriftCalculator(
            column_names=[*NUMERIC, *CATEGORIES],
            treat_as_categorical=list(CATEGORIES),
            continuous_methods=numeric,
            categorical_methods=categorical,
            chunk_number=1,
        )
        return calculator.fit(reference)

    return prepare, lambda calculator: calculator.calculate(current).to_df()


SAME = (["jensen_shannon", "kolmogorov_smirnov", "wasserstein"], ["jensen_shannon", "chi2"])
"""What comes nearest to our distances: it has no PSI, which says what Jensen-Shannon says."""


def alibi_detect(reference: pd.DataFrame, current: pd.DataFrame) -> Steps:
    """Kolmogorov-Smirnov of the 40 numeric columns alone: its mixed test takes 40 s."""
    from alibi_detect.cd import KSDrift

    before, now = reference[NUMERIC].to_numpy(), current[NUMERIC].to_numpy()
    return lambda: KSDrift(before, p_val=0.05), lambda detector: detector.predict(now)


def frouros(reference: pd.DataFrame, current: pd.DataFrame) -> Steps:
    """Kolmogorov-Smirnov and chi-squared, column by column."""
    from frouros.detectors.data_drift import ChiSquareTest, KSTest

    def prepare() -> Any:
        tests = []
        for name in (*NUMERIC, *CATEGORIES):
            test = KSTest() if name in NUMERIC else ChiSquareTest()
            test.fit(X=reference[name].to_numpy(None if name in NUMERIC else object))
            tests.append((name, test))
        return tests

    def check(tests: Any) -> None:
        for name, test in tests:
            test.compare(X=current[name].to_numpy(None if name in NUMERIC else object))

    return prepare, check


def evidently(reference: pd.DataFrame, current: pd.DataFrame) -> Steps:
    """Its data drift preset."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=NUMERIC, categorical_columns=list(CATEGORIES))

    def check(before: Any) -> None:
        now = Dataset.from_pandas(current, data_definition=definition)
        Report([DataDriftPreset()]).run(now, before).dict()

    return lambda: Dataset.from_pandas(reference, data_definition=definition), check


LIBRARIES = {
    "nannyml-same": partial(_nannyml, *SAME),
    "nannyml-js": partial(_nannyml, ["jensen_shannon"], ["jensen_shannon"]),
    "nannyml-ks": partial(_nannyml, ["kolmogorov_smirnov"], ["chi2"]),
    "alibi-detect": alibi_detect,
    "frouros": frouros,
    "evidently": evidently,
}


def main() -> None:
    """Measure."""
    library, rows, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    prepare, check = LIBRARIES[library](window(rows, 0, shifted=False), window(rows, 1, shifted=True))
    whole, alone = [], []
    for _ in range(runs):
        started = time.perf_counter()
        prepared = prepare()
        between = time.perf_counter()
        check(prepared)
        ended = time.perf_counter()
        whole.append(ended - started)
        alone.append(ended - between)
    print(json.dumps({"library": library, "rows": rows, "whole": whole, "check": alone}))


if __name__ == "__main__":
    main()
