"""Requests of a row each into answers: the rows a model takes, and of what it says of them one answer a request."""

from datetime import UTC, datetime

from tidemill_serving import encode
from tidemill_serving.decode import Request
from tidemill_serving.domain.features import Refusal, matrices
from tidemill_serving.domain.model import Predictions, Scalar
from tidemill_serving.loading import Loaded
from tidemill_serving.outcomes import EXPIRED, NO_ANSWER, NO_MODEL, NO_OBJECT, predicted


class Rows:
    """The requests of one call."""

    def __init__(self, requests: list[Request], loaded: Loaded) -> None:
        self._requests = requests
        self._loaded = loaded
        now = datetime.now(UTC)
        self._refusals: list[Refusal | None] = [
            None if type(r.features) is tuple and r.expires_at is None else _unfit(r, now) for r in requests
        ]
        rows = [i for i, unfit in enumerate(self._refusals) if unfit is None]
        self.inputs, refusals = matrices([requests[i].features for i in rows], loaded.model.layout)
        """The rows that are fine, in order."""
        if any(refusals):
            for i, refusal in zip(rows, refusals, strict=True):
                self._refusals[i] = refusal
            rows = [i for i in rows if self._refusals[i] is None]
        self._rows = rows

    def answers(self, predictions: Predictions) -> list[bytes | Refusal]:
        """For each request the bytes of its ``prediction.completed``, or why there is none; ``predictions`` are of
        ``inputs``."""
        rows, found = self._rows, self._refusals
        outcomes = _outcomes(predictions)
        if len(rows) == len(found) and None not in predictions.values:
            return [*self._loaded.stamp.completed(self._requests, outcomes)]
        said = [outcome for outcome in outcomes if outcome[0] is not None]
        if len(said) < len(outcomes):
            for i, (value, _) in zip(rows, outcomes, strict=True):
                found[i] = NO_ANSWER if value is None else None
            rows = [i for i in rows if found[i] is None]
        bodies = iter(self._loaded.stamp.completed([self._requests[i] for i in rows], said))
        return [next(bodies) if refusal is None else refusal for refusal in found]


def answers(requests: list[Request], loaded: Loaded | None) -> list[bytes | Refusal]:
    """For each request the bytes of its ``prediction.completed``, or why there is none."""
    if loaded is None:
        return [NO_MODEL] * len(requests)
    rows = Rows(requests, loaded)
    return rows.answers(predicted(loaded.model, rows.inputs))


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
