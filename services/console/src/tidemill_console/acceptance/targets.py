"""What is promised of a stream of each kind, and how far a policy's figures are from it.

Pure: in go reports as ``outcome.report`` makes them, of one policy over all seeds and of every policy on the same
streams.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tidemill_contracts.pipeline import PromotionPolicy, RetrainPolicy

Kind = Literal["abrupt", "gradual", "control", "poisoned", "unlearnable", "misled", "unknown"]
Row = dict[str, Any]
OURS = ("tidemill", "twin")
_WINDOWS = 200
_BUDGET = RetrainPolicy().trainings_a_day or 0
_BAKE_ROWS = PromotionPolicy().bake_rows


@dataclass(frozen=True)
class Target:
    """A bound for each of the figures: ``figures`` takes the policy's rows and all rows of the case, and gives None for
    what never happened. ``KeyError``: it was not recorded."""

    name: str
    must_be: Literal["at least", "at most"]
    bound: float
    figures: Callable[[Sequence[Row], Sequence[Row]], list[float | None]]
    everybody: bool = False
    """Whether it can be asked of the other policies too."""


def _of(name: str) -> Callable[[Sequence[Row], Sequence[Row]], list[float | None]]:
    """A figure, or a list of them, of each row."""
    return lambda rows, _: [figure for row in rows for figure in _listed(row[name])]


def _listed(value: Any) -> list[float | None]:
    return list(value) if isinstance(value, list) else [value]


def _of_periodic(rows: Sequence[Row], every: Sequence[Row]) -> list[float | None]:
    periodic = {row["stream"]: row["last_quarter"] for row in every if row["policy"] == "periodic"}
    return [row["last_quarter"] / periodic[row["stream"]] for row in rows]


def _behind(rows: Sequence[Row], every: Sequence[Row]) -> list[float | None]:
    """Behind the best of the others; Tidemill and its twin are one policy."""
    return [
        max(other["score"] for other in every if other["stream"] == row["stream"] and _apart(row, other)) - row["score"]
        for row in rows
    ]


def _apart(row: Row, other: Row) -> bool:
    one = row["policy"] in OURS and other["policy"] in OURS
    return not one and row["policy"] != other["policy"]


def _from_twin(rows: Sequence[Row], every: Sequence[Row]) -> list[float | None]:
    twins = {row["stream"]: row["score"] for row in every if row["policy"] == "twin"}
    return [abs(row["score"] - twins[row["stream"]]) for row in rows if row["policy"] != "twin" and twins]


def _drift_verdicts(rows: Sequence[Row], _: Sequence[Row]) -> list[float | None]:
    """Of any kind, over all seeds, in 200 judged windows; what is fewer counts as 200."""
    drifts, windows = 0, 0
    for row in rows:
        judged: dict[str, int] = {}
        for name, count in row["verdicts"].items():
            kind, _, verdict = name.partition(":")
            judged[kind] = judged.get(kind, 0) + (count if verdict != "insufficient_data" else 0)
            drifts += count if verdict == "drift" else 0
        windows += max(judged.values(), default=0)
    return [_WINDOWS * drifts / max(windows, _WINDOWS)]


def _poisoned(rows: Sequence[Row], _: Sequence[Row]) -> list[float | None]:
    return [len(row["poisoned_promotions"]) for row in rows]


def _breaker(rows: Sequence[Row], _: Sequence[Row]) -> list[float | None]:
    """1 where it is open at the end."""
    return [float(bool(row["breaker"]) and row["breaker"][-1][1] is None) for row in rows]


_ALWAYS = (
    Target("unanswered", "at most", 0, _of("unanswered"), everybody=True),
    Target("behind_the_best", "at most", 0.01, _behind, everybody=True),
    Target("from_twin", "at most", 0.01, _from_twin),
)
TARGETS: dict[Kind, tuple[Target, ...]] = {
    "abrupt": (
        Target("recovered_share", "at least", 0.95, _of("recovered_share"), everybody=True),
        Target("detected_after", "at most", 1_000, _of("detected_after")),
        Target("retrains_a_change", "at most", 2, _of("retrains_a_change"), everybody=True),
        *_ALWAYS,
    ),
    "gradual": (Target("last_quarter_of_periodic", "at least", 0.97, _of_periodic, everybody=True), *_ALWAYS),
    "control": (
        Target("retrains", "at most", 0, _of("retrains"), everybody=True),
        Target("drift_verdicts_in_200_windows", "at most", 1, _drift_verdicts),
        *_ALWAYS,
    ),
    "poisoned": (Target("poisoned_promotions", "at most", 0, _poisoned), *_ALWAYS),
    "unlearnable": (
        Target("breaker_open", "at least", 1, _breaker),
        Target("retrains", "at most", _BUDGET, _of("retrains")),
        *_ALWAYS,
    ),
    "misled": (
        Target("rolled_back_after", "at most", _BAKE_ROWS, _of("rolled_back_after")),
        *(target for target in _ALWAYS if target.name != "behind_the_best"),  # nobody misled the others
    ),
    "unknown": _ALWAYS,
}


def judged(kind: Kind, rows: Sequence[Row], every: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """By target: whether every figure of one policy's ``rows`` keeps the bound (``met``; None: there is no figure), the
    worst one (None: it never happened) and the median, and how many of them fall short."""
    ours = all(row["policy"] in OURS for row in rows)
    found = {}
    for target in TARGETS[kind]:
        if ours or target.everybody:
            try:
                figures = target.figures(rows, every)
            except KeyError:
                figures = []
            if figures or ours:
                found[target.name] = _verdict(target, figures)
    return found


def _verdict(target: Target, figures: list[float | None]) -> dict[str, Any]:
    least = target.must_be == "at least"
    known = [round(figure, 4) for figure in figures if figure is not None]
    kept = sum(figure >= target.bound if least else figure <= target.bound for figure in known)
    worst = (min(known, default=None) if least else max(known, default=None)) if len(known) == len(figures) else None
    return {
        "met": kept == len(figures) if figures else None,
        "must_be": target.must_be,
        "bound": target.bound,
        "worst": worst,
        "median": round(statistics.median(known), 4) if known else None,
        "short": len(figures) - kept,
        "of": len(figures),
    }
