"""What one model of a rollout did: rows, refusals, durations, predictions."""

import math
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import orjson

from tidemill_contracts.rollout import DURATION_STEP, Observation
from tidemill_serving import encode
from tidemill_serving.outcomes import EXPIRED

_CLASSES = 200
"""Predictions counted each by itself; further ones together."""
_OTHER = "(other)"
_LABEL = 100
"""Characters of a class that are kept."""
Route = Literal["stream", "http"]
"""How rows came: a call is a batch of the stream, or a request's share of one."""


def clock() -> float:
    """Seconds this thread has computed so far. Not the time of day: a challenger waits for its one thread and, beside a
    busy loop, for the interpreter's lock, which is no fault of its own."""
    return time.thread_time()


class Tally:
    """Counts, which threads may add to."""

    def __init__(self, version: str, edges: Sequence[float]) -> None:
        self.version = version
        self._edges = edges
        self._lock = threading.Lock()
        self._rows = self._failed = 0
        self._calls: dict[Route, Counter[int]] = {}
        self._answers: Counter[str] = Counter()

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._rows

    def take(self, bodies: Iterable[bytes], seconds: float) -> None:
        """A batch's answers, as they are written. What expired is nobody's fault."""
        found: list[Any] = []
        failed = 0
        for body in bodies:
            event = orjson.loads(body)
            data = event["data"]
            if event["type"] == encode.TABLE:
                found += data.get("predictions", ())
                failed += _refused(data.get("refused", ()))
            elif event["type"] == encode.FAILED:
                failed += data["error"] != EXPIRED.error
            else:
                found.append(data["prediction"])
        self.add(found, failed, seconds, "stream")

    def add(self, predictions: Sequence[Any], failed: int, seconds: float | None, route: Route) -> None:
        """Predictions, rows without one, and how long all of them took; None where no call was timed."""
        if not predictions and not failed:
            return
        keys = Counter(map(self._key, predictions))
        with self._lock:
            self._rows += len(predictions) + failed
            self._failed += failed
            if seconds is not None:
                self._calls.setdefault(route, Counter())[_bin(seconds)] += 1
            for key, n in keys.items():
                self._answers[key if key in self._answers or len(self._answers) < _CLASSES else _OTHER] += n

    def _key(self, value: Any) -> str:
        if self._edges and isinstance(value, (int, float)):
            return str(bisect_right(self._edges, value))
        return str(value)[:_LABEL]

    def observation(self) -> Observation:
        """The counts as a document."""
        with self._lock:
            return Observation(
                version=self.version,
                rows=self._rows,
                failed=self._failed,
                calls=_bins(sum(self._calls.values(), Counter())),
                routes={route: _bins(calls) for route, calls in sorted(self._calls.items())},
                answers=dict(sorted(self._answers.items())),
            )


def _refused(groups: Iterable[dict[str, Any]]) -> int:
    return sum(len(group["prediction_ids"]) for group in groups if group["error"] != EXPIRED.error)


def _bins(calls: Counter[int]) -> dict[str, int]:
    return {str(k): n for k, n in sorted(calls.items())}


def _bin(seconds: float) -> int:
    return max(0, math.ceil(math.log(max(seconds * 1e6, 1.0), DURATION_STEP)))
