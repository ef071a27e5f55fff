"""The policy on streams whose truth is known, offline: quick enough to run with every change."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

pytest.importorskip("river")
sys.path.insert(0, str(Path(__file__).parent))

import streams
from twin import Twin

from tidemill_console.acceptance.outcome import SETTLED, Outcome, rolled_back_after, score
from tidemill_console.acceptance.policies import policies, psi
from tidemill_console.acceptance.stream import Stream, stream

BLOCK = 250


def played(stream: Stream) -> Outcome:
    with threadpool_limits(1):
        return Twin(stream, seed=1, block=BLOCK).play()


def test_after_an_abrupt_change_the_score_is_back_within_1500_rows_and_two_trainings() -> None:
    stagger = streams.stagger(1)
    outcome = played(stagger)
    for change in stagger.changes:
        assert score(stagger, outcome, change + SETTLED, change + streams.CONCEPT) >= 0.95
        assert sum(change <= row < change + streams.CONCEPT for row in outcome.retrains) <= 2
        assert any(change <= alarm <= change + 1_000 for alarm in outcome.alarms)


def test_where_nothing_changes_nothing_is_trained() -> None:
    outcome = played(streams.stationary(1))
    assert outcome.retrains == []
    assert outcome.verdicts["concept:stable"] >= 20


def test_a_bad_model_that_an_operator_forced_gives_its_place_back() -> None:
    misled = streams.misled(1, live=3_000)
    outcome = played(misled)
    row = 3_500
    assert outcome.retrains == outcome.promotions[:1] == [row], "what the bad one was complained of is answered so"
    assert [begin for begin, _ in outcome.withdrawn] == [row]
    assert score(misled, outcome, row, row + BLOCK) < 0.3
    (labels,) = rolled_back_after(misled, outcome)
    assert labels is not None and labels <= 1_000
    assert score(misled, outcome, row + labels, len(misled)) > 0.85


def test_other_policies_see_the_same_rows_at_the_same_time() -> None:
    stagger = streams.stagger(1)
    with threadpool_limits(1):
        others = {o.policy: o for o in policies(stagger, BLOCK, 1)}
    assert others["static"].retrains == []
    assert others["periodic"].retrains == [4_000, 6_000, 8_000, 10_000, 12_000, 14_000]
    assert score(stagger, others["periodic"], 8_500, 10_000) > 0.95 > score(stagger, others["static"], 6_000, 14_000)


def test_a_label_is_known_after_its_delay_and_never_without_one() -> None:
    table, labels = pd.DataFrame({"x": range(10)}), ["a", "b"] * 5
    made = stream("s", table, labels, first=4, delays=[0] * 4 + [0, 2, -1, 0, 3, 0])
    assert made.known(4, 8) == [4, 5, 7]
    assert made.known(8, 12) == [8, 9]


def test_psi_of_equal_samples_is_nothing() -> None:
    sample = np.random.default_rng(0).normal(size=1_000)
    assert psi(sample, sample) == pytest.approx(0)
    assert psi(sample, sample + 2) > 0.2
