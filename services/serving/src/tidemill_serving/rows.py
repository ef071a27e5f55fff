"""Requests of a row each into answers: the rows a model takes, and of what it says of them one answer a request."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tidemill_serving import encode
from tidemill_serving.decode import Head, Request
from tidemill_serving.domain.features import Cells, Matrices, Refusal, matrices, stacked
from tidemill_serving.domain.model import Predictions, Scalar
from tidemill_serving.loading import Loaded
from tidemill_serving.outcomes import EXPIRED, NO_ANSWER, NO_MODEL, NO_OBJECT, predicted


class Rows:
    """The requests of one call, taken part by part.

    A part's cells become rows of matrices at once: what a reader made for them is then made again where it was, which
    is near, and not somewhere new.
    """

    def __init__(self, loaded: Loaded | None) -> None:
        self.requests: list[Head] = []
        self._loaded = loaded
        self._refusals: list[Refusal | None] = []
        self.inputs: list[Matrices] = []
        """The rows that are fine, in order, part after part."""

    def take(self, requests: Sequence[Head], cells: Sequence[Cells]) -> None:
        """Requests that are plainly right, and the row of each."""
        self._put(requests, [None] * len(requests), cells)

    def judge(self, requests: Sequence[Request]) -> None:
        """Requests each of which may be late, or hold no row."""
        now = datetime.now(UTC)
        refusals = [_unfit(request, now) for request in requests]
        fit = [request.features for request, unfit in zip(requests, refusals, strict=True) if unfit is None]
        self._put(requests, refusals, fit)

    def _put(self, requests: Sequence[Head], refusals: list[Refusal | None], rows: Sequence[Any]) -> None:
        """``rows`` has the features of those that are not refused."""
        self.requests += requests
        if self._loaded is None:
            self._refusals += [NO_MODEL] * len(requests)
            return
        inputs, found = matrices(rows, self._loaded.model.layout)
        self.inputs.append(inputs)
        if any(found):
            judged = iter(found)
            refusals = [next(judged) if refusal is None else refusal for refusal in refusals]
        self._refusals += refusals

    @property
    def fine(self) -> int:
        """How many of them have a row."""
        return sum(map(len, self.inputs))

    def answers(self, predictions: Predictions | None) -> Sequence[bytes | Refusal]:
        """For each request the bytes of its ``prediction.completed``, or why there is none; ``predictions`` are of
        ``inputs``, None without a model."""
        if self._loaded is None or predictions is None:
            return [refusal or NO_MODEL for refusal in self._refusals]
        found, outcomes = self._refusals, _outcomes(predictions)
        if len(outcomes) == len(found) and None not in predictions.values:
            return self._loaded.stamp.completed(self.requests, outcomes)
        said = iter(outcomes)
        found = [(NO_ANSWER if next(said)[0] is None else None) if refusal is None else refusal for refusal in found]
        answered = [request for request, refusal in zip(self.requests, found, strict=True) if refusal is None]
        bodies = iter(self._loaded.stamp.completed(answered, [each for each in outcomes if each[0] is not None]))
        return [next(bodies) if refusal is None else refusal for refusal in found]


def answers(requests: Sequence[Request], loaded: Loaded) -> Sequence[bytes | Refusal]:
    """For each request the bytes of its ``prediction.completed``, or why there is none."""
    rows = Rows(loaded)
    rows.judge(requests)
    return rows.answers(predicted(loaded.model, stacked(rows.inputs)))


def _unfit(request: Request, now: datetime) -> Refusal | None:
    """Why a request has no row for the model."""
    if request.expires_at is not None and request.expires_at < now:
        return EXPIRED
    return None if type(request.features) in (tuple, dict) else NO_OBJECT


def _outcomes(predictions: Predictions) -> list[tuple[Scalar, str | None]]:
    """Value and probabilities (as JSON) of each row."""
    if predictions.probabilities is None or not predictions.values:
        return [(value, None) for value in predictions.values]
    return list(zip(predictions.values, encode.probability_texts(predictions.probabilities), strict=True))
