"""The report card is true: settings that see are told from settings that do not."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np

from tidemill_contracts.dataset import Histogram
from tidemill_contracts.package import Reference as Document
from tidemill_contracts.package import ReferenceColumn as Column
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.selftest import grade
from tidemill_monitoring.promotions import translate


def document() -> Document:
    values = np.random.default_rng(0).normal(50, 10, 2_000)
    edges = np.quantile(values, np.linspace(0, 1, 21)[1:-1])
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=20)
    number = Column(
        name="x",
        kind="numeric",
        rows=2_000,
        missing=0,
        histogram=Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist())),
        minimum=float(values.min()),
        maximum=float(values.max()),
        mean=50.0,
        std=10.0,
        longest_run=2,
        importance=0.7,
    )
    city = Column(
        name="c", kind="categorical", rows=2_000, missing=20, categories={"a": 1_480, "b": 450, "z": 50}, importance=0.3
    )
    return Document(
        rows=2_000,
        columns=(number, city),
        prediction=number,
        target=city,
        metric="accuracy",
        score=0.9,
        error=0.1,
        error_rows=400,
    )


POLICY = Policy(True, "accuracy", None, 500, 100, 0.01, 2, 0.05, 0.95)


def test_good_settings_pass_and_deaf_ones_fail() -> None:
    reference = translate(document(), "reference")
    card = grade(reference, POLICY, 0.1, trials=6)
    caught = {(t.watch, t.change): (t.caught, t.delay_rows) for t in card.trials}
    assert card.windows == 200
    assert card.beyond <= 8
    assert card.drifts <= 1
    assert caught["inputs", "mean + 0.5 sd"] == caught["inputs", "mean + 1 sd"] == (6, 1_000.0)
    assert caught["inputs", "5 % never seen"] == (6, 1_000.0)
    assert caught["quality", "unit times 1000"] == caught["quality", "half missing"] == (6, 32.0)
    assert caught["quality", "stuck"][0] == 6
    assert caught["quality", "none in 256 rows"] == (0, None)
    assert caught["errors", "error 0.10 to 0.30"][0] == 6
    assert caught["errors", "none in 6000 rows"][0] <= 1

    deaf = grade(reference, replace(POLICY, window_rows=60, min_rows=50, consecutive=10, among=10), 0.1, trials=2)
    assert all(t.caught == 0 for t in deaf.trials if t.watch == "inputs" and "0.25" in t.change)


def test_it_runs_as_a_program() -> None:
    spec = PipelineSpec(name="p", task="classification", target="c", primary="accuracy")
    asked = {"spec": spec.model_dump(mode="json"), "reference": document().model_dump(mode="json"), "trials": 1}
    done = subprocess.run(
        [sys.executable, "-m", "tidemill_monitoring.selftest"],
        input=json.dumps(asked).encode(),
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert json.loads(done.stdout)["rate"] == 0.01
