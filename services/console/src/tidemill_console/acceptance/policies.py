"""The other ways to keep a model fresh, computed offline on the same stream with the same learner.

They learn of labels at the same moments as Tidemill does, and look whenever a block of rows has arrived.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill_console.acceptance.learning import Encoder, fit
from tidemill_console.acceptance.outcome import Outcome
from tidemill_console.acceptance.stream import Stream

Array = NDArray[Any]
EVERY = 2_000
_WINDOW, _PSI, _TRAIN = 500, 0.2, 1_000
_BINS = 10
Wanted = Callable[[int, int, list[int]], list[int] | None]
"""From the row now, the row of the last training and the labelled rows to the rows to train on, or None."""


def policies(stream: Stream, block: int, seed: int) -> list[Outcome]:
    """Static, periodic, all history, no change and triggered by input drift, over the whole stream."""
    x = Encoder(stream.table).rows

    def periodic(now: int, last: int, known: list[int]) -> list[int] | None:
        return known[-EVERY:] if now - last >= EVERY else None

    def everything(now: int, last: int, known: list[int]) -> list[int] | None:
        return known if now - last >= EVERY else None

    def drifted(now: int, last: int, known: list[int]) -> list[int] | None:
        if now - last < _WINDOW:
            return None
        before, after = x[max(0, last - EVERY) : last], x[now - _WINDOW : now]
        worst = max(psi(before[:, j], after[:, j]) for j in range(x.shape[1]))
        return known[-_TRAIN:] if worst > _PSI else None

    wanted: dict[str, Wanted] = {
        "static": lambda now, last, known: None,
        "periodic": periodic,
        "all_history": everything,
        "input_psi": drifted,
    }
    return [_played(name, stream, x, choose, block, seed) for name, choose in wanted.items()] + [_no_change(stream)]


def psi(before: Array, after: Array) -> float:
    """Population stability index of two samples over deciles of the first."""
    edges = np.unique(np.nanquantile(before, np.linspace(0, 1, _BINS + 1)[1:-1]))
    p, q = (np.bincount(np.searchsorted(edges, v, side="right"), minlength=len(edges) + 1) for v in (before, after))
    a, b = np.maximum(p / max(p.sum(), 1), 1e-4), np.maximum(q / max(q.sum(), 1), 1e-4)
    return float(((a - b) * np.log(a / b)).sum())


def _played(name: str, stream: Stream, x: Array, choose: Wanted, block: int, seed: int) -> Outcome:
    outcome = Outcome(name, stream.unanswered())
    known = list(range(stream.first))
    model = fit(x[known], stream.labels[known], seed, stream.classifies)
    last = stream.first
    for begin in range(stream.first, len(stream), block):
        end = min(begin + block, len(stream))
        outcome.predicted[begin:end] = model.predict(x[begin:end])
        known += stream.known(begin, end)
        rows = choose(end, last, known)
        new = fit(x[rows], stream.labels[rows], seed, stream.classifies) if rows else None
        if new is not None:
            model, last = new, end
            outcome.retrains.append(end)
    return outcome


def _no_change(stream: Stream) -> Outcome:
    """The answer is the label that was known last."""
    outcome = Outcome("no_change", stream.unanswered())
    known = [(row + int(delay) + 1, row) for row, delay in enumerate(stream.delays) if delay >= 0]
    known.sort()
    latest, at = stream.labels[stream.first - 1], 0
    for row in range(stream.first, len(stream)):
        while at < len(known) and known[at][0] <= row:
            latest, at = stream.labels[known[at][1]], at + 1
        outcome.predicted[row] = latest
    return outcome
