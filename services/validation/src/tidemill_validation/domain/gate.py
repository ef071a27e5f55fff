"""The gate: what a package must show before it may answer for anybody."""

from dataclasses import dataclass

from tidemill_validation.domain.bootstrap import Difference
from tidemill_validation.domain.scores import LOWER_IS_BETTER


@dataclass(frozen=True)
class Finding:
    """One check."""

    name: str
    passed: bool
    message: str
    value: float | None = None
    bound: float | None = None


def goals(found: dict[str, float], wanted: dict[str, float]) -> list[Finding]:
    """The specification's bounds: at least, or for losses and errors at most. An undefined score misses its goal."""
    findings = []
    for metric, bound in sorted(wanted.items()):
        value = found.get(metric, float("nan"))
        low = metric in LOWER_IS_BETTER
        passed = value <= bound if low else value >= bound
        relation = "at most" if low else "at least"
        message = f"{metric} {value:.4f}, {relation} {bound:g} is asked for"
        findings.append(Finding(f"goal:{metric}", bool(passed), message, value, bound))
    return findings


def replaces(difference: Difference, margin: float, *, champion_misses_goals: bool) -> Finding:
    """Whether the challenger takes the champion's place. A significant gain does; without one a challenger that is not
    worse does only when the champion misses its goals. Ties keep the champion."""
    d = difference
    interval = f"difference {d.difference:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
    if d.low > 0:
        return Finding("better", True, f"significantly better than the champion: {interval}", d.difference, 0.0)
    not_worse = d.low >= -margin or d.difference >= 0
    if not_worse and champion_misses_goals:
        return Finding("better", True, f"not worse, and the champion misses its goals: {interval}", d.difference, 0.0)
    if d.high < -margin:
        return Finding("better", False, f"worse than the champion: {interval}", d.difference, 0.0)
    return Finding("better", False, f"no significant gain over the champion: {interval}", d.difference, 0.0)
