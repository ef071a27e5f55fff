"""Answers into the bytes of their events, written by hand: a pydantic model a row would cost more than the answer."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tidemill_contracts.envelope import MAX_EVENT_BYTES
from tidemill_contracts.events import PredictionCompleted, PredictionFailed, PredictionsCompleted, PredictionShadowed
from tidemill_serving.decode import Head
from tidemill_serving.derived import derived_id, derived_ids
from tidemill_serving.domain.features import Refusal

COMPLETED, FAILED = PredictionCompleted.type_name(), PredictionFailed.type_name()
TABLE = PredictionsCompleted.type_name()
SHADOWED = PredictionShadowed.type_name()
TOO_LARGE = Refusal("answer_too_large", None, f"the answer would be above {MAX_EVENT_BYTES} bytes: send fewer rows")
_MESSAGE_LIMIT = 1000
"""Of ``prediction.failed``."""


def json_text(value: Any) -> str:
    """Any JSON value as text."""
    return orjson.dumps(value).decode()


def probability_texts(probabilities: NDArray[np.float32]) -> list[str]:
    """``[p, …]`` for each row of [n, classes], n ≥ 1: the shortest decimals that are these float32 again."""
    matrix = orjson.dumps(np.ascontiguousarray(probabilities, np.float32), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return [f"[{row}]" for row in matrix[2:-2].split("],[")]


class Stamp:
    """What every answer of one model carries."""

    def __init__(self, version: str, dataset_version: str, classes: Sequence[Any]) -> None:
        self.version = version
        end = f'"model_version":"{version}","dataset_version":"{dataset_version}"}}}}'
        self._classes = f',"classes":{json_text(list(classes))},{end}'
        self._end = f",{end}"
        self._predictions = {c: json_text(c) for c in classes}

    def completed(self, requests: Sequence[Head], outcomes: Iterable[tuple[Any, str | None]]) -> list[bytes]:
        """``prediction.completed`` of each request: a class or a number, and probabilities, which are JSON already."""
        ids = derived_ids([r.id for r in requests], COMPLETED, [r.subject for r in requests])
        known, found = self._predictions, []
        for own, request, (value, probabilities) in zip(ids, requests, outcomes, strict=True):
            prediction = known.get(value) or json_text(value)
            odds = f',"probabilities":{probabilities}{self._classes}' if probabilities is not None else self._end
            head = _envelope(request, COMPLETED, own)
            found.append(f'{head}"prediction_id":"{request.id}","prediction":{prediction}{odds}'.encode())
        return found

    def completed_table(
        self,
        request: Head,
        ids: Sequence[str],
        values: Sequence[Any],
        odds: NDArray[np.float32] | None,
        refused: Mapping[Refusal, Sequence[str]],
    ) -> bytes | None:
        """``predictions.completed``; None when it would be larger than an event may be."""
        body = (
            f'{_envelope(request, TABLE)}"prediction_ids":{json_text(ids)},"predictions":{json_text(values)}'
            f"{_refusals(refused)}"
        )
        if odds is None or not len(odds):
            body += self._end
        else:
            matrix = orjson.dumps(np.ascontiguousarray(odds, np.float32), option=orjson.OPT_SERIALIZE_NUMPY)
            body += f',"probabilities":{matrix.decode()}{self._classes}'
        found = body.encode()
        return found if len(found) <= MAX_EVENT_BYTES else None


def refused_table(request: Head, refused: Mapping[Refusal, Sequence[str]], model: tuple[str, str] | None) -> bytes:
    """``predictions.completed`` without a prediction; ``model`` is its version and its dataset's."""
    stamp = f',"model_version":"{model[0]}","dataset_version":"{model[1]}"' if model else ""
    return f'{_envelope(request, TABLE)}"prediction_ids":[]{_refusals(refused)}{stamp}}}}}'.encode()


def _refusals(refused: Mapping[Refusal, Sequence[str]]) -> str:
    """The field ``refused`` with the comma before it, or nothing."""
    groups = [{"prediction_ids": list(ids), **_reason(refusal)} for refusal, ids in refused.items()]
    return f',"refused":{json_text(groups)}' if groups else ""


def _reason(refusal: Refusal) -> dict[str, str]:
    field = {"field": refusal.field} if refusal.field is not None else {}
    return {"error": refusal.error, **field, "message": refusal.message[:_MESSAGE_LIMIT]}


def failed(request: Head, refusal: Refusal, version: str | None) -> bytes:
    """``prediction.failed``."""
    field = f',"field":{json_text(refusal.field)}' if refusal.field is not None else ""
    message = json_text(refusal.message[:_MESSAGE_LIMIT])
    model = f',"model_version":"{version}"' if version else ""
    said = f'"error":"{refusal.error}"{field},"message":{message}{model}'
    return f'{_envelope(request, FAILED)}"prediction_id":"{request.id}",{said}}}}}'.encode()


def shadowed(answer: Mapping[str, Any], id_: str, prediction: Any, error: str | None, version: str) -> bytes:
    """``prediction.shadowed`` for a row of an answer that nobody else gets to see."""
    data = {"prediction_id": id_, "prediction": prediction, "error": error, "model_version": version}
    kept = ("specversion", "source", "subject", "time", "datacontenttype", "correlationid", "causationid")
    envelope = {name: answer[name] for name in kept}
    own = {"id": derived_id(id_, SHADOWED, answer["subject"]), "type": SHADOWED}
    return orjson.dumps({**envelope, **own, "data": {k: v for k, v in data.items() if v is not None}})


def _envelope(request: Head, type_: str, own_id: str | None = None) -> str:
    """The envelope up to the payload's brace.

    The answer bears the request's time: it is the row's time, and a request sent twice gets the same bytes twice.
    """
    id_ = request.id
    root = json_text(request.correlationid) if request.correlationid else f'"{id_}"'
    trace = f',"traceparent":{json_text(request.traceparent)}' if request.traceparent else ""
    return (
        f'{{"specversion":"1.0","id":"{own_id or derived_id(id_, type_, request.subject)}","type":"{type_}",'
        f'"source":"urn:tidemill:serving","subject":"{request.subject}","time":"{request.time}",'
        f'"datacontenttype":"application/json","correlationid":{root},"causationid":"{id_}"{trace},'
        f'"data":{{'
    )
