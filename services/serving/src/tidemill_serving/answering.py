"""A batch of requests into answers: one model call, one answer a request."""

import asyncio
import time
from datetime import UTC, datetime

from tidemill_contracts.registry import InvalidEvent
from tidemill_contracts.streams import state_key, stream_key
from tidemill_serving import decode, encode
from tidemill_serving.decode import Request
from tidemill_serving.domain.features import Matrices, Refusal, matrices
from tidemill_serving.domain.model import Model, Scalar
from tidemill_serving.loading import Loaded
from tidemill_serving.models import Models
from tidemill_shared.delivery import Completion, Delivery, Once
from tidemill_shared.log import logger
from tidemill_shared.telemetry import counter, histogram

log = logger(__name__)
_NO_MODEL = Refusal("no_model", None, "no model has been promoted for this pipeline yet")
_NO_OBJECT = Refusal("wrong_type", "features", "features must be an object of feature names and their values")
_EXPIRED = Refusal("expired", "expires_at", "the request had expired before its turn came")
_NO_ANSWER = Refusal("model_failed", None, "the model could not answer this row")
_LARGE_BATCH = 64
"""From here on a batch is worth a thread, so that health checks and lease renewals go on."""


class Answering:
    """The handler of the prediction lanes."""

    def __init__(self, models: Models, namespace: str, once_seconds: float) -> None:
        self._models = models
        self._namespace = namespace
        self._once_seconds = once_seconds

    async def on_batch(self, pipeline: str, batch: list[Delivery]) -> Completion:
        """Every request gets exactly one answer; what is no request goes to the dead letters."""
        started = time.perf_counter()
        # Read once: the whole batch is answered by this model, whatever is promoted meanwhile.
        loaded = await self._models.ensure(pipeline)
        if len(batch) < _LARGE_BATCH:
            completion, refused = self._complete(pipeline, batch, loaded)
        else:
            completion, refused = await asyncio.to_thread(self._complete, pipeline, batch, loaded)
        counted = counter("tidemill.serving.predictions")
        counted.add(len(completion.outputs) - refused, {"pipeline": pipeline, "outcome": "completed"})
        counted.add(refused, {"pipeline": pipeline, "outcome": "failed"})
        histogram("tidemill.serving.batch.duration").record(time.perf_counter() - started, {"pipeline": pipeline})
        return completion

    def _complete(self, pipeline: str, batch: list[Delivery], loaded: Loaded | None) -> tuple[Completion, int]:
        """The completion, and how many of its answers are refusals."""
        completion = Completion()
        held: list[Delivery] = []
        requests: list[Request] = []
        read = loaded.reader.read if loaded else decode.read
        for delivery in batch:
            try:
                requests.append(read(delivery.body, pipeline))
                held.append(delivery)
            except InvalidEvent as error:
                completion.dead.append((delivery, error.code, str(error)))
        completed = stream_key(self._namespace, encode.COMPLETED, pipeline)
        failed = stream_key(self._namespace, encode.FAILED, pipeline)
        completion.once = Once(
            state_key(self._namespace, "serving", "answered", pipeline),
            tuple([request.id for request in requests]),
            self._once_seconds,
        )
        refused = 0
        for delivery, request, answer in zip(held, requests, answers(requests, loaded), strict=True):
            if isinstance(answer, Refusal):
                refused += 1
                body = encode.failed(request, answer, loaded.version if loaded else None)
                completion.outputs.append((delivery, [(failed, body)]))
            else:
                completion.outputs.append((delivery, [(completed, answer)]))
        return completion, refused


def answers(requests: list[Request], loaded: Loaded | None) -> list[bytes | Refusal]:
    """For each request the bytes of its ``prediction.completed``, or why there is none."""
    if loaded is None:
        return [_NO_MODEL] * len(requests)
    found: list[bytes | Refusal] = [_NO_OBJECT] * len(requests)
    now = datetime.now(UTC)
    rows = []
    for i, request in enumerate(requests):
        if request.expires_at is not None and request.expires_at < now:
            found[i] = _EXPIRED
        elif type(request.features) in (tuple, dict):
            rows.append(i)
    inputs, refusals = matrices([requests[i].features for i in rows], loaded.model.layout)
    outcomes = iter(_outcomes(loaded.model, inputs))
    for i, refusal in zip(rows, refusals, strict=True):
        if refusal:
            found[i] = refusal
            continue
        value, odds = next(outcomes)
        found[i] = _NO_ANSWER if value is None else loaded.stamp.completed(requests[i], value, odds)
    return found


def _outcomes(model: Model, inputs: Matrices) -> list[tuple[Scalar, str | None]]:
    """Value and probabilities (as JSON) of each row: by one call, unless a row breaks it for all the others."""
    try:
        predictions = model.predict(inputs)
    except Exception as error:
        # ONNX Runtime's message may quote the row, so only its kind is logged.
        log.error("the model failed", kind=type(error).__name__, rows=len(inputs))
        if len(inputs) == 1:
            return [(None, None)]
        return [outcome for i in range(len(inputs)) for outcome in _outcomes(model, inputs[i : i + 1])]
    if predictions.probabilities is None or not predictions.values:
        return [(value, None) for value in predictions.values]
    return list(zip(predictions.values, encode.probability_texts(predictions.probabilities), strict=True))
