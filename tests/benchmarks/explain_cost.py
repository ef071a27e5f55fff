"""What one explanation costs, beside the model calls it is made of.

    python tests/benchmarks/explain_cost.py [--runs 15]

20 numeric and 5 categorical columns, one-hot, 100 boosting iterations, one ONNX Runtime thread; one row explained
with 4 pairs of orders for each of 32 background rows, which asks the model for 64 * 4 * 26 = 6 656 rows. Medians of
the runs, in turns; the last line is one JSON object. Trust the ratio.
"""

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
from http_infer import CATEGORICAL, LEVELS, NUMERIC, fitted_onnx

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_serving.domain.background import Spread, background
from tidemill_serving.domain.features import Layout, Matrices
from tidemill_serving.domain.model import Model
from tidemill_serving.explaining import _explain
from tidemill_serving.loading import Loaded

PAIRS, BACKGROUND = 4, 32
ASKED = 2 * PAIRS * BACKGROUND * (len(NUMERIC) + len(CATEGORICAL) + 1)


def rows(count: int) -> Matrices:
    """Standard normal numbers, even categories."""
    random = np.random.default_rng(count)
    texts = random.choice(LEVELS, (count, len(CATEGORICAL))).astype(object)
    return Matrices(random.normal(size=(count, len(NUMERIC))).astype(np.float32), texts)


def seconds(work: Any) -> float:
    """Of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_known_args()[0].runs
    layout = Layout(NUMERIC, CATEGORICAL, {name: frozenset(LEVELS) for name in CATEGORICAL})
    model = Model(fitted_onnx(), layout, task="classification", classes=(0, 1), positive=1)
    loaded = Loaded(model, "0" * 12, "1" * 12, 1, ArtifactRef(key="none", sha256="0" * 64, size=0))
    number = Spread(0, (-1.0, 0.0, 1.0), (16, 34, 34, 16), -3.0, 3.0)
    text = Spread(0, categories=tuple((level, 1) for level in LEVELS))
    base = background([number] * len(NUMERIC), [text] * len(CATEGORICAL), BACKGROUND)
    one, many = rows(1), rows(ASKED)
    spent: dict[str, list[float]] = {"explanation": [], "bare_calls": []}
    for turn in range(runs + 1):
        found = {
            "explanation": seconds(lambda: _explain(loaded, one, base, PAIRS)),
            "bare_calls": seconds(lambda: model.predict(many)),
        }
        for name, value in found.items() if turn else ():
            spent[name].append(value)
    middle = {name: statistics.median(values) for name, values in spent.items()}
    figures = {f"{name}_ms": round(1000 * value, 1) for name, value in middle.items()}
    print(json.dumps(figures | {"rows": ASKED, "ratio": round(middle["explanation"] / middle["bare_calls"], 2)}))


if __name__ == "__main__":
    main()
