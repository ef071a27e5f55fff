"""What a policy did with a stream, and what is said of it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill_console.acceptance.learning import Encoder, fit
from tidemill_console.acceptance.stream import Stream

Array = NDArray[Any]
SETTLED = 1_500
"""Rows after a change by which a policy should have recovered."""
_LEAST = 200


@dataclass
class Outcome:
    """``predicted`` [n] as ``Stream.labels``, "" before the first live row and for rows without an answer; the rest are
    rows at which something happened. ``learned`` holds, for each of ``promotions``, the rows that model learned from,
    ``breaker`` from which row to which one the circuit breaker was open, None: to the end, ``withdrawn`` when a model
    that proved bad had been promoted, and when it was withdrawn."""

    policy: str
    predicted: Array
    retrains: list[int] = field(default_factory=list)
    alarms: list[int] = field(default_factory=list)
    promotions: list[int] = field(default_factory=list)
    learned: list[Array] = field(default_factory=list)
    breaker: list[tuple[int, int | None]] = field(default_factory=list)
    withdrawn: list[tuple[int, int]] = field(default_factory=list)
    verdicts: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def metric(stream: Stream) -> str:
    """The score of this stream's policies."""
    return "accuracy" if stream.classifies else "r2"


def score(stream: Stream, outcome: Outcome, begin: int, end: int) -> float:
    """Of rows [begin, end): the share of right answers; of numbers R², where a row without an answer counts as
    answered by the mean."""
    return _score(stream, outcome.predicted[begin:end], begin, end)


def _score(stream: Stream, predicted: Array, begin: int, end: int) -> float:
    truth = stream.labels[begin:end]
    if stream.classifies:
        return float((predicted == truth).mean())
    mean = float(truth.mean())
    values = np.array([mean if isinstance(value, str) else value for value in predicted], np.float64)
    spread = float(((truth - mean) ** 2).sum())
    return 1 - float(((truth - values) ** 2).sum()) / spread if spread > 0 else 0.0


def reachable(stream: Stream, seed: int) -> list[tuple[int, int, float]]:
    """For each change the rows judged after it, and the score on them of a model trained on the rows between."""
    x = Encoder(stream.table).rows
    found = []
    for begin, end in stream.concepts:
        judged = begin + SETTLED
        if end - judged < _LEAST:
            continue
        model = fit(x[begin:judged], stream.labels[begin:judged], seed, stream.classifies)
        if model is not None:
            found.append((judged, end, _score(stream, model.predict(x[judged:end]), judged, end)))
    return found


def poisoned(stream: Stream, outcome: Outcome) -> list[dict[str, int]]:
    """Promotions of models that learned from rows with wrong labels: when, from how many rows, how many of them
    wrong."""
    found = zip(outcome.promotions, outcome.learned, strict=True)
    counts = [(row, len(learned), int(np.isin(learned, stream.wrong).sum())) for row, learned in found]
    return [{"row": row, "rows": rows, "wrong": wrong} for row, rows, wrong in counts if wrong]


def rolled_back_after(stream: Stream, outcome: Outcome) -> list[int | None]:
    """Labels that came until the model of misled rows was withdrawn; None where it never was, or never promoted."""
    if stream.misled is None:
        return []
    row = stream.misled.row
    return [next((len(stream.known(row, end)) for begin, end in outcome.withdrawn if begin == row), None)]


def report(stream: Stream, outcome: Outcome, reached: list[tuple[int, int, float]]) -> dict[str, Any]:
    """One JSON object a stream and policy."""
    shares = [score(stream, outcome, a, b) / best for a, b, best in reached if best > 0]
    detected = [next((a - begin for a in outcome.alarms if begin <= a < end), None) for begin, end in stream.concepts]
    a_change = [sum(begin <= r < end for r in outcome.retrains) for begin, end in stream.concepts]
    quarter = (len(stream) - stream.first) // 4
    return {
        "stream": stream.name,
        "policy": outcome.policy,
        "rows": len(stream) - stream.first,
        "metric": metric(stream),
        "score": round(score(stream, outcome, stream.first, len(stream)), 4),
        "last_quarter": round(score(stream, outcome, len(stream) - quarter, len(stream)), 4),
        "recovered_share": [round(s, 4) for s in shares],
        "detected_after": detected,
        "retrains": len(outcome.retrains),
        "retrains_a_change": a_change,
        "retrain_rows": outcome.retrains,
        "promotions": len(outcome.promotions),
        "poisoned_promotions": poisoned(stream, outcome),
        "breaker": [list(spell) for spell in outcome.breaker],
        "withdrawn": [list(spell) for spell in outcome.withdrawn],
        "rolled_back_after": rolled_back_after(stream, outcome),
        "verdicts": outcome.verdicts,
        "refusals": outcome.refusals,
        "unanswered": int(sum(isinstance(v, str) and not v for v in outcome.predicted[stream.first :])),
        "seconds": round(outcome.seconds, 1),
    }
