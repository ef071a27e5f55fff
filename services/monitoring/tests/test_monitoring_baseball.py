"""The monitor's own decisions on real data with real drift: 93 seasons, labels a season late, retraining on alarm."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.findings import Degraded, Detected
from tidemill_monitoring.domain.monitor import Champion, Monitor
from tidemill_monitoring.domain.outcome import Answer, AnsweredRow, LabelledRow
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.reference import Reference, numeric_column

ROOT = Path(__file__).resolve().parents[3]
DATA = next(iter(sorted((ROOT / "services").glob("*/src/**/baseball.csv.gz"))), None)
FEATURES = (
    "games",
    "at_bats",
    "runs",
    "hits",
    "doubles",
    "triples",
    "runs_batted_in",
    "stolen_bases",
    "walks",
    "strikeouts",
)
WAIT_ROWS, MOST_ROWS = 300, 1_000


def seasons() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert DATA is not None
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["at_bats"] and float(row["at_bats"]) >= 50]
    column = "season" if "season" in rows[0] else "year"
    table = np.array([[float(row[f]) if row[f] else np.nan for f in FEATURES] for row in rows])
    return (
        np.array([int(row[column]) for row in rows]),
        table,
        np.array([float(row["home_runs"]) >= 10 for row in rows]),
    )


def reference_of(number: int, table: np.ndarray, scores: np.ndarray, score: float, rows: int) -> Reference:
    def column(name: str, values: np.ndarray) -> Any:
        known = values[~np.isnan(values)]
        edges = np.unique(np.quantile(known, np.linspace(0, 1, 21)[1:-1])) if len(known) else np.empty(0)
        counts = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
        return numeric_column(name, len(values), len(values) - len(known), edges.tolist(), counts.tolist())

    columns = tuple(column(name, table[:, i]) for i, name in enumerate(FEATURES))
    return Reference(str(number), columns, column("prediction", scores), score, rows)


def fit(number: int, table: np.ndarray, target: np.ndarray) -> tuple[Any, Champion]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import f1_score

    held = np.random.default_rng(number).uniform(size=len(table)) < 0.15
    model = HistGradientBoostingClassifier(random_state=0).fit(table[~held], target[~held])
    score = float(f1_score(target[held], model.predict(table[held])))
    scores = model.predict_proba(table)[:, 1]
    return model, Champion(f"{number:012x}", number, reference_of(number, table, scores, score, int(held.sum())))


@pytest.mark.skipif(DATA is None, reason="the demo's data set is not there")
def test_it_alarms_when_the_game_changed_and_hardly_ever_else() -> None:
    pytest.importorskip("sklearn")
    from sklearn.metrics import f1_score

    season, table, target = seasons()
    policy = Policy(True, "f1", True, 500, 100, 0.01, 2, 0.05, 0.95)
    monitor = Monitor.new(policy, Calibration())
    model, champion = fit(1, table[season < 1915], target[season < 1915])
    champions = {champion.version: champion}
    late: list[LabelledRow] = []
    alarms: list[int] = []
    answers: dict[int, np.ndarray] = {}
    since: float | None = None
    for year in range(1915, 2008):
        now = np.flatnonzero(season == year)
        chances = model.predict_proba(table[now])
        answers[year] = chances[:, 1] >= 0.5
        rows = []
        for i, chance in zip(now.tolist(), chances.tolist(), strict=True):
            features = {f: None if np.isnan(v) else v for f, v in zip(FEATURES, table[i].tolist(), strict=True)}
            answer = Answer(chance[1] >= 0.5, tuple(chance), (False, True), champion.version, "d")
            rows.append(AnsweredRow(f"{i}", features, float(year), answer))
        found = [*monitor.answered(rows, champions), *monitor.labelled(late, float(year))]
        late = [LabelledRow(row, bool(target[i])) for row, i in zip(rows, now, strict=True)]
        for _, finding in found:
            assert not isinstance(finding, Degraded), "no false fall below the baseline"
            if isinstance(finding, Detected) and finding.kind == "concept":
                alarms.append(int(finding.noticed_at))
                since = finding.noticed_at
        known = np.flatnonzero((season >= (since or np.inf)) & (season < year))
        if len(known) >= WAIT_ROWS:
            model, champion = fit(champion.sequence + 1, table[known[-MOST_ROWS:]], target[known[-MOST_ROWS:]])
            champions[champion.version] = champion
            since = None
    assert 2 <= len(alarms) <= 5
    assert 1920 <= alarms[0] <= 1924, "the live ball"
    assert any(1945 <= alarm <= 1955 for alarm in alarms)
    judged = np.isin(season, range(1925, 2008))
    predicted = np.concatenate([answers[year] for year in range(1925, 2008)])
    assert f1_score(target[judged], predicted) >= 0.82
    assert len(json.dumps(monitor.dump())) < 50_000
