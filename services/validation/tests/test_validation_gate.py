"""The gate's rules."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_validation.domain.bootstrap import Difference
from tidemill_validation.domain.gate import enough, goals, replaces

SMALL = st.floats(-0.5, 0.5)
WIDTH = st.floats(0, 0.5)


def difference(middle: float, below: float, above: float) -> Difference:
    return Difference(0.5, 0.5 + middle, middle, middle - below, middle + above)


@given(SMALL, WIDTH, WIDTH, st.floats(0, 0.1), st.booleans(), st.floats(0, 0.5))
def test_a_better_challenger_is_never_refused_where_a_worse_one_was_taken(
    middle: float, below: float, above: float, margin: float, misses: bool, gain: float
) -> None:
    d = difference(middle, below, above)
    better = replace(d, difference=d.difference + gain, low=d.low + gain, high=d.high + gain)
    if replaces(d, margin, champion_misses_goals=misses).passed:
        assert replaces(better, margin, champion_misses_goals=misses).passed


@given(SMALL, WIDTH, WIDTH, st.floats(0, 0.1))
def test_a_champion_that_misses_its_goals_is_never_harder_to_replace(
    middle: float, below: float, above: float, margin: float
) -> None:
    d = difference(middle, below, above)
    if replaces(d, margin, champion_misses_goals=False).passed:
        assert replaces(d, margin, champion_misses_goals=True).passed


@pytest.mark.parametrize(
    ("middle", "below", "above", "misses", "passed", "code"),
    [
        (0.10, 0.05, 0.05, False, True, ""),
        (0.03, 0.05, 0.05, False, False, "no_significant_gain"),
        (0.03, 0.05, 0.05, True, True, ""),
        (0.00, 0.00, 0.00, False, False, "no_significant_gain"),
        (-0.005, 0.001, 0.001, True, True, ""),
        (-0.005, 0.050, 0.050, True, False, "no_significant_gain"),
        (-0.20, 0.05, 0.05, True, False, "worse_than_champion"),
        (float("nan"), float("inf"), float("inf"), True, False, "no_significant_gain"),
    ],
)
def test_who_replaces_whom(middle: float, below: float, above: float, misses: bool, passed: bool, code: str) -> None:
    found = replaces(difference(middle, below, above), 0.01, champion_misses_goals=misses)
    assert (found.passed, found.code) == (passed, code)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_goals_are_monotone(value: float, gain: float, bound: float) -> None:
    if goals({"f1": value}, {"f1": bound})[0].passed:
        assert goals({"f1": value + gain}, {"f1": bound})[0].passed
    if goals({"log_loss": value}, {"log_loss": bound})[0].passed:
        assert goals({"log_loss": value - gain}, {"log_loss": bound})[0].passed


def test_an_undefined_score_misses_its_goal() -> None:
    assert not goals({}, {"roc_auc": 0.1})[0].passed


def test_few_rows_are_said_to_be_few() -> None:
    assert enough(19, 20).code == "too_few_test_rows"
    assert not enough(19, 20).passed
    assert "only large differences" in enough(60, 20).message
    assert "only large differences" not in enough(500, 20).message
