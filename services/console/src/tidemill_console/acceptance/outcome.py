"""What a policy did with a stream, and what is said of it."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from tidemill_console.acceptance.learning import Encoder, fit
from tidemill_console.acceptance.stream import Stream

Array = NDArray[Any]
SETTLED = 1_500
"""Rows after a change by which a policy should have recovered."""
_LEAST = 200


@dataclass
class Outcome:
    """``predicted`` [n] text, "" before the first live row and for rows without an answer; the rest are rows at which
    something happened."""

    policy: str
    predicted: Array
    retrains: list[int] = field(default_factory=list)
    alarms: list[int] = field(default_factory=list)
    promotions: list[int] = field(default_factory=list)
    verdicts: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def accuracy(stream: Stream, outcome: Outcome, begin: int, end: int) -> float:
    """Share of right answers in rows [begin, end)."""
    return float((outcome.predicted[begin:end] == stream.labels[begin:end]).mean())


def reachable(stream: Stream, seed: int) -> list[tuple[int, int, float]]:
    """For each change the rows judged after it, and the accuracy on them of a model trained on the rows between."""
    x = Encoder(stream.table).rows
    found = []
    for begin, end in stream.concepts:
        judged = begin + SETTLED
        if end - judged < _LEAST:
            continue
        model = fit(x[begin:judged], stream.labels[begin:judged], seed)
        if model is not None:
            found.append((judged, end, float((model.predict(x[judged:end]) == stream.labels[judged:end]).mean())))
    return found


def report(stream: Stream, outcome: Outcome, reached: list[tuple[int, int, float]]) -> dict[str, Any]:
    """One JSON object a stream and policy."""
    shares = [accuracy(stream, outcome, a, b) / best for a, b, best in reached if best > 0]
    detected = [next((a - begin for a in outcome.alarms if begin <= a < end), None) for begin, end in stream.concepts]
    a_change = [sum(begin <= r < end for r in outcome.retrains) for begin, end in stream.concepts]
    quarter = (len(stream) - stream.first) // 4
    return {
        "stream": stream.name,
        "policy": outcome.policy,
        "rows": len(stream) - stream.first,
        "accuracy": round(accuracy(stream, outcome, stream.first, len(stream)), 4),
        "last_quarter": round(accuracy(stream, outcome, len(stream) - quarter, len(stream)), 4),
        "recovered_share": [round(s, 3) for s in shares],
        "detected_after": detected,
        "retrains": len(outcome.retrains),
        "retrains_a_change": a_change,
        "retrain_rows": outcome.retrains,
        "promotions": len(outcome.promotions),
        "verdicts": outcome.verdicts,
        "refusals": outcome.refusals,
        "unanswered": int((outcome.predicted[stream.first :] == "").sum()),
        "seconds": round(outcome.seconds, 1),
    }
