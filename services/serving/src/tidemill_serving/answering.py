"""A batch of requests into answers: one model call, one envelope a request."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import orjson

from tidemill_contracts.envelope import child_id
from tidemill_contracts.events import PredictionCompleted, PredictionFailed, PredictionRequested
from tidemill_contracts.registry import InvalidEvent, parse_as
from tidemill_contracts.streams import stream_key
from tidemill_serving.domain.features import Refusal, matrices
from tidemill_serving.loading import Loaded
from tidemill_serving.models import Models
from tidemill_shared.delivery import Completion, Delivery
from tidemill_shared.telemetry import counter, histogram

_COMPLETED, _FAILED = PredictionCompleted.type_name(), PredictionFailed.type_name()
_LARGE_BATCH = 64
"""From here on a model call is worth a thread, so that health checks and lease renewals go on."""


class Answering:
    """The handler of the prediction lanes."""

    def __init__(self, models: Models, namespace: str) -> None:
        self._models = models
        self._namespace = namespace

    async def on_batch(self, pipeline: str, batch: list[Delivery]) -> Completion:
        """Every request gets exactly one answer; what is no request goes to the dead letters."""
        started = time.perf_counter()
        completion = Completion()
        requests: list[tuple[Delivery, PredictionRequested]] = []
        for delivery in batch:
            try:
                event = parse_as(PredictionRequested, delivery.body)
                if event.pipeline != pipeline:
                    raise InvalidEvent("invalid", f"subject {event.subject!r} in the stream of {pipeline!r}")
            except InvalidEvent as error:
                completion.dead.append((delivery, error.code, str(error)))
            else:
                requests.append((delivery, event))
        loaded = self._models.get(pipeline)
        if loaded is None:
            refusal = Refusal("no_model", None, "no model has been promoted for this pipeline yet")
            answers: list[dict[str, Any] | Refusal] = [refusal] * len(requests)
        elif len(requests) < _LARGE_BATCH:
            answers = self._answer(loaded, [e for _, e in requests])
        else:
            answers = await asyncio.to_thread(self._answer, loaded, [e for _, e in requests])
        now = datetime.now(UTC).isoformat()
        failed = 0
        for (delivery, event), answer in zip(requests, answers, strict=True):
            failed += isinstance(answer, Refusal)
            completion.outputs.append((delivery, [self._envelope(event, answer, loaded, now)]))
        counted = counter("tidemill.serving.predictions")
        counted.add(len(requests) - failed, {"pipeline": pipeline, "outcome": "completed"})
        counted.add(failed, {"pipeline": pipeline, "outcome": "failed"})
        histogram("tidemill.serving.batch.duration").record(time.perf_counter() - started, {"pipeline": pipeline})
        return completion

    @staticmethod
    def _answer(loaded: Loaded, requests: list[PredictionRequested]) -> list[dict[str, Any] | Refusal]:
        inputs, refusals = matrices([e.data.features for e in requests], loaded.model.layout)
        predictions = loaded.model.predict(inputs)
        probabilities = predictions.probabilities.tolist() if predictions.probabilities is not None else None
        answers: list[dict[str, Any] | Refusal] = []
        row = 0
        for refusal in refusals:
            if refusal:
                answers.append(refusal)
                continue
            answer: dict[str, Any] = {"prediction": predictions.values[row]}
            if probabilities is not None:
                answer |= {"probabilities": probabilities[row], "classes": loaded.model.classes}
            answers.append(answer)
            row += 1
        return answers

    def _envelope(
        self, event: PredictionRequested, answer: dict[str, Any] | Refusal, loaded: Loaded | None, now: str
    ) -> tuple[str, bytes]:
        # Written by hand: a pydantic model a row would cost more than the model's own answer. A contract test
        # compares these bytes with the event classes.
        data: dict[str, Any] = {"prediction_id": event.id}
        if isinstance(answer, Refusal):
            type_ = _FAILED
            data |= {"error": answer.error, "field": answer.field, "message": answer.message}
            data["model_version"] = loaded.version if loaded else None
        else:
            type_ = _COMPLETED
            data |= answer
            if loaded:
                data |= {"model_version": loaded.version, "dataset_version": loaded.dataset_version}
        envelope = {
            "specversion": "1.0",
            "id": child_id(event.id, type_, event.subject),
            "type": type_,
            "source": "urn:tidemill:serving",
            "subject": event.subject,
            "time": now,
            "datacontenttype": "application/json",
            "correlationid": event.correlationid or event.id,
            "causationid": event.id,
            "data": data,
        }
        if event.traceparent:
            envelope["traceparent"] = event.traceparent
        return stream_key(self._namespace, type_, event.pipeline), orjson.dumps(envelope)
