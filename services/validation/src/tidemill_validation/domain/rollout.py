"""Whether a challenger beside the champion goes on, waits, or is stopped, by what both did since its stage began.

While a stage lasts a challenger is stopped only for what is surely wrong (each bound is taken at three standard
errors, as it is looked at again and again); at its end the plain figures must be within the limits.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

_SURE = 3.0
_ROWS, _CALLS = 20, 10
"""Rows of the challenger, and calls of each model, before anything is sure."""
_LEAST_MILLISECONDS = 1.0
"""A call that takes this much longer is no reason, however short the champion's are."""


Durations = Mapping[int, int]
"""Calls by bin of duration."""


@dataclass(frozen=True)
class Counts:
    """What one model did: rows, those without an answer, durations of its calls by route, rows by prediction."""

    rows: int = 0
    failed: int = 0
    calls: Mapping[str, Durations] = field(default_factory=dict)
    answers: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Counts") -> "Counts":
        """Both together."""
        nothing: Durations = {}
        routes = sorted(self.calls.keys() | other.calls.keys())
        return Counts(
            self.rows + other.rows,
            self.failed + other.failed,
            {r: Counter(self.calls.get(r, nothing)) + Counter(other.calls.get(r, nothing)) for r in routes},
            Counter(self.answers) + Counter(other.answers),
        )


@dataclass(frozen=True)
class Limits:
    """What a stage asks for. ``step`` is the ratio of neighbouring bins of duration, whose first ends at 1 µs."""

    rows: int
    seconds: float
    errors: float
    slowdown: float
    distance: float | None
    step: float


@dataclass(frozen=True)
class Verdict:
    """``code`` names what the challenger is stopped for."""

    action: Literal["wait", "go", "stop"]
    reason: str
    code: str = ""


def judge(champion: Counts, challenger: Counts, limits: Limits, seconds: float) -> Verdict:
    """The verdict ``seconds`` after the stage began."""
    over = challenger.rows >= limits.rows and seconds >= limits.seconds
    if challenger.rows < _ROWS and not over:
        return Verdict("wait", f"{challenger.rows} rows answered")
    for bad in (
        _errors(champion, challenger, limits, over=over),
        _latency(champion, challenger, limits),
        _distance(champion, challenger, limits, over=over),
    ):
        if bad:
            return bad
    return Verdict("go" if over else "wait", f"{challenger.rows} rows answered within the limits")


def _errors(champion: Counts, challenger: Counts, limits: Limits, *, over: bool) -> Verdict | None:
    own = challenger.failed / challenger.rows
    base = champion.failed / champion.rows if champion.rows else 0.0
    low = own if over else lowest_share(challenger.failed, challenger.rows)
    high = base if over or not champion.rows else 1 - lowest_share(champion.rows - champion.failed, champion.rows)
    if low - high <= limits.errors:
        return None
    reason = f"fails {own:.1%} of {challenger.rows} rows, the champion {base:.1%}"
    return Verdict("stop", f"{reason}; {limits.errors:.1%} more are allowed", "rollout_errors")


def lowest_share(hits: int, n: int) -> float:
    """Wilson's lower bound (1927) of a share at three standard errors."""
    p, z = hits / n, _SURE**2 / n
    return (p + z / 2 - math.sqrt(z * p * (1 - p) + z * z / 4)) / (1 + z)


def _latency(champion: Counts, challenger: Counts, limits: Limits) -> Verdict | None:
    for pace in paces(champion, challenger, limits.step):
        own, theirs = pace.milliseconds, pace.champion_milliseconds
        if pace.calls < _CALLS or own <= theirs * limits.slowdown or own <= theirs + _LEAST_MILLISECONDS:
            continue
        where = f" ({pace.route})" if pace.route else ""
        reason = f"a call{where} takes {own:.2f} ms in the median, the champion's {theirs:.2f} ms"
        return Verdict("stop", f"{reason}; {limits.slowdown:g} times that is allowed", "rollout_latency")
    return None


@dataclass(frozen=True)
class Pace:
    """Median durations of both models' calls on one route; ``calls`` is how many the model has that has fewer."""

    route: str
    calls: int
    milliseconds: float
    champion_milliseconds: float


def paces(champion: Counts, challenger: Counts, step: float) -> list[Pace]:
    """Like beside like, the route with the most calls first. A call of the stream is a batch, one over HTTP often a
    row: where the two models have another mix of them, the medians of all calls would differ though no model does."""
    routes = sorted(champion.calls.keys() & challenger.calls.keys())
    found = [_pace(route, champion.calls[route], challenger.calls[route], step) for route in routes]
    return sorted((pace for pace in found if pace), key=lambda pace: -pace.calls)


def _pace(route: str, theirs: Durations, own: Durations, step: float) -> Pace | None:
    calls = min(sum(theirs.values()), sum(own.values()))
    return Pace(route, calls, milliseconds(own, step), milliseconds(theirs, step)) if calls else None


def milliseconds(calls: Durations, step: float) -> float:
    """Median duration of some calls: the geometric middle of its bin. Raises ValueError without calls."""
    half, seen = sum(calls.values()) / 2, 0
    for k, n in sorted(calls.items()):
        seen += n
        if seen >= half and n:
            return float(step ** (k - 0.5)) / 1000
    raise ValueError("no calls")


def distance(a: Mapping[str, int], b: Mapping[str, int]) -> tuple[float, float] | None:
    """Total variation of two samples of predictions, and how much of it is to be expected where there is none.

    The latter is half the sum over the bins of E|p - q| = sqrt(2/π · p(1-p)(1/n + 1/m)), by the normal approximation.
    None while one of the two is empty.
    """
    n, m = sum(a.values()), sum(b.values())
    if not n or not m:
        return None
    found = noise = 0.0
    for key in a.keys() | b.keys():
        x, y = a.get(key, 0), b.get(key, 0)
        found += abs(x / n - y / m) / 2
        p = (x + y) / (n + m)
        noise += math.sqrt(2 / math.pi * p * (1 - p) * (1 / n + 1 / m)) / 2
    return found, noise


def _distance(champion: Counts, challenger: Counts, limits: Limits, *, over: bool) -> Verdict | None:
    found = distance(champion.answers, challenger.answers)
    if found is None or limits.distance is None:
        return None
    value, noise = found
    if value - noise * (1 if over else _SURE) <= limits.distance:
        return None
    reason = f"its predictions differ from the champion's by {value - noise:.2f} (total variation)"
    return Verdict("stop", f"{reason}; {limits.distance:g} is allowed", "rollout_distance")
