"""A batch of requests into answers: one model call, one answer a request."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from tidemill_contracts.events import PredictionsRequested
from tidemill_contracts.registry import InvalidEvent
from tidemill_contracts.streams import state_key, stream_key
from tidemill_serving import decode, encode
from tidemill_serving.calls import Calls
from tidemill_serving.decode import Request
from tidemill_serving.domain.features import Matrices, Refusal, matrices
from tidemill_serving.domain.model import Model, Scalar
from tidemill_serving.loading import Loaded
from tidemill_serving.models import Models
from tidemill_serving.outcomes import EXPIRED, NO_ANSWER, NO_MODEL, NO_OBJECT, predicted, told
from tidemill_serving.rollouts import Rollouts
from tidemill_serving.table import Table, TableReader
from tidemill_serving.tables import table_answers
from tidemill_serving.trying import Works
from tidemill_shared.delivery import Completion, Delivery, Once
from tidemill_shared.telemetry import histogram

_TABLE = PredictionsRequested.type_name()
_LARGE_BYTES = 64 * 1024
"""Above it a batch is worth a thread, so that health checks and lease renewals go on."""
ReadT = TypeVar("ReadT", Request, Table)


class Answering:
    """The handler of the prediction lanes."""

    def __init__(
        self, models: Models, rollouts: Rollouts, namespace: str, once_seconds: float, calls: Calls | None = None
    ) -> None:
        self._models = models
        self._rollouts = rollouts
        self._namespace = namespace
        self._once_seconds = once_seconds
        self._calls = calls or Calls()

    async def on_batch(self, pipeline: str, batch: list[Delivery]) -> Completion:
        """Every request gets exactly one answer; what is no request goes to the dead letters."""
        started = time.perf_counter()
        # Read once: the whole batch is answered by this model (and by the one tried beside it), whatever is promoted
        # meanwhile.
        loaded = await self._models.ensure(pipeline)
        tried = self._rollouts.beside(pipeline, loaded, batch)
        work = Work(pipeline, self._namespace, loaded) if tried is None else tried
        model, load = loaded.model if loaded else None, sum(len(delivery.body) for delivery in batch) / _LARGE_BYTES
        if self._calls.inline(model, load):
            completion = self._calls.here(model, load, work.complete, batch, self._once_seconds)
        else:
            completion = await self._calls.apart(model, load, work.complete, batch, self._once_seconds)
        told(pipeline, work.answered, work.refused)
        histogram("tidemill.serving.batch.duration").record(time.perf_counter() - started, {"pipeline": pipeline})
        return completion


class Work:
    """One batch on its way to its completion."""

    def __init__(self, pipeline: str, namespace: str, loaded: Loaded | None) -> None:
        self._pipeline = pipeline
        self._namespace = namespace
        self._loaded = loaded
        self._completion = Completion()
        self._ids: list[str] = []
        self.answered = 0
        self.refused = 0

    def complete(self, batch: list[Delivery], once_seconds: float) -> Completion:
        """Answers and dead letters; rows answered and refused are counted."""
        tables = [delivery for delivery in batch if delivery.type == _TABLE]
        self._singles([delivery for delivery in batch if delivery.type != _TABLE] if tables else batch)
        if tables:
            self._tables(tables)
        key = state_key(self._namespace, "serving", "answered", self._pipeline)
        self._completion.once = Once(key, tuple(self._ids), once_seconds)
        return self._completion

    def _singles(self, batch: list[Delivery]) -> None:
        loaded = self._loaded
        held, requests = self._read(batch, loaded.reader.read if loaded else decode.read)
        completed = stream_key(self._namespace, encode.COMPLETED, self._pipeline)
        failed = stream_key(self._namespace, encode.FAILED, self._pipeline)
        self._ids += [request.id for request in requests]
        refused = 0
        outputs = self._completion.outputs
        for delivery, request, answer in zip(held, requests, answers(requests, loaded), strict=True):
            if isinstance(answer, Refusal):
                refused += 1
                body = encode.failed(request, answer, loaded.version if loaded else None)
                outputs.append((delivery, [(failed, body)]))
            else:
                outputs.append((delivery, [(completed, answer)]))
        self.answered += len(requests) - refused
        self.refused += refused

    def _tables(self, batch: list[Delivery]) -> None:
        reader = self._loaded.tables if self._loaded else TableReader(None)
        held, tables = self._read(batch, reader.read)
        completed = stream_key(self._namespace, encode.TABLE, self._pipeline)
        for delivery, table, (body, refused) in zip(held, tables, table_answers(tables, self._loaded), strict=True):
            self._completion.outputs.append((delivery, [(completed, body)]))
            # The id of an event, not of a prediction: no prediction's id begins so.
            self._ids.append(f"*{table.request.id}")
            self.answered += len(table.ids) - refused
            self.refused += refused

    def _read(self, batch: list[Delivery], read: Callable[[bytes, str], ReadT]) -> tuple[list[Delivery], list[ReadT]]:
        held: list[Delivery] = []
        found: list[ReadT] = []
        for delivery in batch:
            try:
                found.append(read(delivery.body, self._pipeline))
                held.append(delivery)
            except InvalidEvent as error:
                self._completion.dead.append((delivery, error.code, str(error)))
        return held, found


def works(namespace: str) -> Works:
    """Work on batches of any pipeline by any model."""
    return lambda pipeline, loaded: Work(pipeline, namespace, loaded)


def answers(requests: list[Request], loaded: Loaded | None) -> list[bytes | Refusal]:
    """For each request the bytes of its ``prediction.completed``, or why there is none."""
    if loaded is None:
        return [NO_MODEL] * len(requests)
    now = datetime.now(UTC)
    found = [None if type(r.features) is tuple and r.expires_at is None else _unfit(r, now) for r in requests]
    rows = [i for i, unfit in enumerate(found) if unfit is None]
    inputs, refusals = matrices([requests[i].features for i in rows], loaded.model.layout)
    outcomes = _outcomes(loaded.model, inputs)
    if any(refusals):
        for i, refusal in zip(rows, refusals, strict=True):
            found[i] = refusal
        rows = [i for i in rows if found[i] is None]
    said = [outcome for outcome in outcomes if outcome[0] is not None]
    if len(said) < len(outcomes):
        for i, (value, _) in zip(rows, outcomes, strict=True):
            found[i] = NO_ANSWER if value is None else None
        rows = [i for i in rows if found[i] is None]
    bodies = iter(loaded.stamp.completed([requests[i] for i in rows], said))
    return [next(bodies) if refusal is None else refusal for refusal in found]


def _unfit(request: Request, now: datetime) -> Refusal | None:
    """Why a request has no row for the model."""
    if request.expires_at is not None and request.expires_at < now:
        return EXPIRED
    return None if type(request.features) in (tuple, dict) else NO_OBJECT


def _outcomes(model: Model, inputs: Matrices) -> list[tuple[Scalar, str | None]]:
    """Value and probabilities (as JSON) of each row."""
    predictions = predicted(model, inputs)
    if predictions.probabilities is None or not predictions.values:
        return [(value, None) for value in predictions.values]
    return list(zip(predictions.values, encode.probability_texts(predictions.probabilities), strict=True))
