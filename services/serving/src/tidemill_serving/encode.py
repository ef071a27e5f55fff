"""Answers into the bytes of their events, written by hand: a pydantic model a row would cost more than the answer."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import orjson
from numpy.typing import NDArray

from tidemill_contracts.envelope import MAX_EVENT_BYTES
from tidemill_contracts.events import PredictionCompleted, PredictionFailed, PredictionsCompleted, PredictionShadowed
from tidemill_serving.decode import Request
from tidemill_serving.domain.features import Refusal

COMPLETED, FAILED = PredictionCompleted.type_name(), PredictionFailed.type_name()
TABLE = PredictionsCompleted.type_name()
SHADOWED = PredictionShadowed.type_name()
TOO_LARGE = Refusal("answer_too_large", None, f"the answer would be above {MAX_EVENT_BYTES} bytes: send fewer rows")
_NAMESPACE = uuid5(NAMESPACE_URL, "urn:tidemill").bytes
_VARIANT = "89ab" * 4
_MESSAGE_LIMIT = 1000
"""Of ``prediction.failed``."""


def json_text(value: Any) -> str:
    """Any JSON value as text."""
    return orjson.dumps(value).decode()


def probability_texts(probabilities: NDArray[np.float32]) -> list[str]:
    """``[p, …]`` for each row of [n, classes], n ≥ 1: the shortest decimals that are these float32 again."""
    matrix = orjson.dumps(np.ascontiguousarray(probabilities, np.float32), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return [f"[{row}]" for row in matrix[2:-2].split("],[")]


def derived_id(cause_id: str, type_: str, subject: str) -> str:
    """``tidemill_contracts.envelope.child_id``, bit by bit (RFC 9562, version 5): through ``uuid.UUID`` it would be
    the dearest part of an answer. A test holds the two together."""
    cause = bytearray(hashlib.sha1(_NAMESPACE + cause_id.encode(), usedforsecurity=False).digest()[:16])
    cause[6] = cause[6] & 0x0F | 0x50
    cause[8] = cause[8] & 0x3F | 0x80
    h = hashlib.sha1(cause + f"{type_} {subject}".encode(), usedforsecurity=False).hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[int(h[16], 16)]}{h[17:20]}-{h[20:32]}"


class Stamp:
    """What every answer of one model carries."""

    def __init__(self, version: str, dataset_version: str, classes: Sequence[Any]) -> None:
        self.version = version
        end = f'"model_version":"{version}","dataset_version":"{dataset_version}"}}}}'
        self._classes = f',"classes":{json_text(list(classes))},{end}'
        self._end = f",{end}"
        self._predictions = {c: json_text(c) for c in classes}

    def completed(self, request: Request, value: Any, probabilities: str | None) -> bytes:
        """``prediction.completed`` for a class or a number; the probabilities are JSON already."""
        prediction = self._predictions.get(value) or json_text(value)
        odds = f',"probabilities":{probabilities}{self._classes}' if probabilities is not None else self._end
        return f'{_head(request, COMPLETED)},"prediction":{prediction}{odds}'.encode()

    def completed_table(
        self,
        request: Request,
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


def refused_table(request: Request, refused: Mapping[Refusal, Sequence[str]], model: tuple[str, str] | None) -> bytes:
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


def failed(request: Request, refusal: Refusal, version: str | None) -> bytes:
    """``prediction.failed``."""
    field = f',"field":{json_text(refusal.field)}' if refusal.field is not None else ""
    message = json_text(refusal.message[:_MESSAGE_LIMIT])
    model = f',"model_version":"{version}"' if version else ""
    return f'{_head(request, FAILED)},"error":"{refusal.error}"{field},"message":{message}{model}}}}}'.encode()


def shadowed(answer: Mapping[str, Any], id_: str, prediction: Any, error: str | None, version: str) -> bytes:
    """``prediction.shadowed`` for a row of an answer that nobody else gets to see."""
    data = {"prediction_id": id_, "prediction": prediction, "error": error, "model_version": version}
    kept = ("specversion", "source", "subject", "time", "datacontenttype", "correlationid", "causationid")
    envelope = {name: answer[name] for name in kept}
    own = {"id": derived_id(id_, SHADOWED, answer["subject"]), "type": SHADOWED}
    return orjson.dumps({**envelope, **own, "data": {k: v for k, v in data.items() if v is not None}})


def _head(request: Request, type_: str) -> str:
    """The envelope up to the payload's first field."""
    return f'{_envelope(request, type_)}"prediction_id":"{request.id}"'


def _envelope(request: Request, type_: str) -> str:
    """The envelope up to the payload's brace.

    The answer bears the request's time: it is the row's time, and a request sent twice gets the same bytes twice.
    """
    id_, subject = request.id, request.subject
    root = json_text(request.correlationid) if request.correlationid else f'"{id_}"'
    trace = f',"traceparent":{json_text(request.traceparent)}' if request.traceparent else ""
    return (
        f'{{"specversion":"1.0","id":"{derived_id(id_, type_, subject)}","type":"{type_}",'
        f'"source":"urn:tidemill:serving","subject":"{subject}","time":"{request.time}",'
        f'"datacontenttype":"application/json","correlationid":{root},"causationid":"{id_}"{trace},'
        f'"data":{{'
    )
