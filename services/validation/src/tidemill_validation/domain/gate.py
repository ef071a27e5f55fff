"""The gate: what a package must show before it may answer for anybody."""

from collections.abc import Mapping
from dataclasses import dataclass

from tidemill_validation.domain.bootstrap import Difference
from tidemill_validation.domain.scores import LOWER_IS_BETTER

BETTER = "better"
"""The one check that a package may fail and still be sound: it is just not needed."""
_SURE_ROWS = 100


@dataclass(frozen=True)
class Finding:
    """One check; ``code`` names its failure for programs."""

    name: str
    passed: bool
    message: str
    value: float | None = None
    bound: float | None = None
    code: str = ""


def enough(rows: int, least: int) -> Finding:
    """Whether there are rows to judge on."""
    message = f"{rows} rows that training never read, at least {least} are needed"
    if least <= rows < _SURE_ROWS:
        message += "; so few that only large differences show"
    return Finding("rows", rows >= least, message, rows, least, "too_few_test_rows")


def goals(found: Mapping[str, float], wanted: Mapping[str, float]) -> list[Finding]:
    """The specification's bounds: at least, or for losses and errors at most. An undefined score misses its goal."""
    findings = []
    for metric, bound in sorted(wanted.items()):
        value = found.get(metric, float("nan"))
        low = metric in LOWER_IS_BETTER
        passed = value <= bound if low else value >= bound
        message = f"{metric} {value:.4f}, {'at most' if low else 'at least'} {bound:g} is asked for"
        findings.append(Finding(f"goal:{metric}", bool(passed), message, value, bound, f"goal_{metric}"))
    return findings


def replaces(difference: Difference, margin: float, *, champion_misses_goals: bool) -> Finding:
    """Whether the challenger takes the champion's place. A significant gain does. Without one, a challenger that is
    not worse does only when the champion misses its goals. Ties keep the champion.

    Not worse: the whole interval lies above ``-margin``, or the challenger's own score is no lower; few rows make
    intervals so wide that the first could never be shown.
    """
    d = difference
    interval = f"difference {d.difference:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"

    def finding(passed: bool, why: str, code: str = "") -> Finding:
        return Finding(BETTER, passed, f"{why}: {interval}", d.difference, 0.0, code)

    if d.low > 0:
        return finding(True, "significantly better than the champion")
    if champion_misses_goals and (d.low > -margin or d.difference >= 0):
        return finding(True, "not worse, and the champion misses its goals")
    if d.high < -margin:
        return finding(False, "worse than the champion", "worse_than_champion")
    return finding(False, "no significant gain over the champion", "no_significant_gain")


def slices(worst: tuple[str, float] | None, count: int) -> Finding:
    """No part of the rows pays for the gain of the others."""
    if worst is None:
        return Finding("slices", True, f"worse on none of {count} slices", None, None, "worse_on_a_slice")
    name, difference = worst
    message = f"worse than the champion where {name}: mean loss {-difference:+.4f}"
    return Finding("slices", False, message, difference, 0.0, "worse_on_a_slice")
