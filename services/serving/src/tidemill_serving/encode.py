"""Answers into the bytes of their events, written by hand: a pydantic model a row would cost more than the answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tidemill_contracts.envelope import child_id
from tidemill_contracts.events import PredictionCompleted, PredictionFailed
from tidemill_serving.decode import Request
from tidemill_serving.domain.features import Refusal

COMPLETED, FAILED = PredictionCompleted.type_name(), PredictionFailed.type_name()
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

    def completed(self, request: Request, value: Any, probabilities: str | None) -> bytes:
        """``prediction.completed`` for a class or a number; the probabilities are JSON already."""
        prediction = self._predictions.get(value) or json_text(value)
        odds = f',"probabilities":{probabilities}{self._classes}' if probabilities is not None else self._end
        return f'{_head(request, COMPLETED)},"prediction":{prediction}{odds}'.encode()


def failed(request: Request, refusal: Refusal, version: str | None) -> bytes:
    """``prediction.failed``."""
    field = f',"field":{json_text(refusal.field)}' if refusal.field is not None else ""
    message = json_text(refusal.message[:_MESSAGE_LIMIT])
    model = f',"model_version":"{version}"' if version else ""
    return f'{_head(request, FAILED)},"error":"{refusal.error}"{field},"message":{message}{model}}}}}'.encode()


def _head(request: Request, type_: str) -> str:
    """The envelope up to the payload's first field.

    The answer bears the request's time: it is the row's time, and a request sent twice gets the same bytes twice.
    """
    id_, subject = request.id, request.subject
    root = json_text(request.correlationid) if request.correlationid else f'"{id_}"'
    trace = f',"traceparent":{json_text(request.traceparent)}' if request.traceparent else ""
    return (
        f'{{"specversion":"1.0","id":"{child_id(id_, type_, subject)}","type":"{type_}",'
        f'"source":"urn:tidemill:serving","subject":"{subject}","time":"{request.time}",'
        f'"datacontenttype":"application/json","correlationid":{root},"causationid":"{id_}"{trace},'
        f'"data":{{"prediction_id":"{id_}"'
    )
