"""What the demo is compared with, computed in the same run: ``python -m tidemill_console.demo.baselines``.

``static``: one model trained on the seasons before 1915. ``periodic``: again every 2 000 rows, on the last 2 000.
Both get each season's outcomes when it has ended, as Tidemill does a season later.
"""

import json
import sys
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from tidemill_console.demo.seasons import FIRST_LIVE, Line, read

EVERY = 2_000


def _arrays(lines: list[Line]) -> tuple[Any, Any]:
    x = np.array([[np.nan if v is None else v for v in line.features.values()] for line in lines])
    return x, np.array([line.label for line in lines])


def _fit(lines: list[Line]) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(random_state=0, early_stopping=False).fit(*_arrays(lines))


def replay(last: int) -> dict[str, Any]:
    """Predictions of both policies by season, as lists of 0 and 1, and the number of periodic retrainings."""
    seasons = read()
    known = [line for year in sorted(seasons) if year < FIRST_LIVE for line in seasons[year]]
    static = periodic = _fit(known)
    found: dict[str, Any] = {"static": {}, "periodic": {}, "retrains": 0}
    new = 0
    for year in sorted(y for y in seasons if FIRST_LIVE <= y <= last):
        x, _ = _arrays(seasons[year])
        found["static"][year] = static.predict(x).tolist()
        found["periodic"][year] = periodic.predict(x).tolist()
        known += seasons[year]
        new += len(seasons[year])
        if new >= EVERY:
            periodic, new = _fit(known[-EVERY:]), 0
            found["retrains"] += 1
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(replay(int(sys.argv[1]))) + "\n")
