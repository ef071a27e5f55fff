"""The protocol's answers, written by hand: what all answers of one model share is encoded once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from tidemill_serving.domain.model import Model, Predictions, Scalar
from tidemill_serving.domain.protocol import datatype


class Answers(NamedTuple):
    """One request's share of a call. ``odds`` are its rows of probabilities, each ``p,p,…`` in JSON; ``seconds`` is its
    share of what the call took."""

    values: list[Scalar]
    odds: list[str] | None
    seconds: float


def texts(probabilities: NDArray[np.float32]) -> list[str]:
    """``p,p,…`` for each row of [n, classes], n ≥ 1: the shortest decimals that are these float32 again."""
    matrix = orjson.dumps(np.ascontiguousarray(probabilities, np.float32), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return matrix[2:-2].split("],[")


def shares(found: Predictions, sizes: Sequence[int], seconds: float) -> list[Answers]:
    """The answers of one call, which took so long, request by request. ``sizes`` are their rows."""
    row_seconds = seconds / max(len(found.values), 1)
    odds = None if found.probabilities is None else texts(found.probabilities)
    shared: list[Answers] = []
    start = 0
    for size in sizes:
        end = start + size
        part = None if odds is None else odds[start:end]
        shared.append(Answers(found.values[start:end], part, row_seconds * size))
        start = end
    return shared


class Reply:
    """What every answer of one model looks like."""

    def __init__(self, model: Model, version: str, dataset_version: str) -> None:
        stamp = f'"parameters":{{"model_version":"{version}","dataset_version":"{dataset_version}"}}'
        self._head = f'"model_version":"{version}",{stamp},"outputs":['
        self._datatype = datatype(model)
        self._classes = len(model.classes)
        kept = [str(c) if self._datatype == "BYTES" else c for c in model.classes]
        self._texts = {c: _text(k) for c, k in zip(model.classes, kept, strict=True)}

    def body(self, pipeline: str, answers: Answers, wanted: tuple[str, ...], id_: str | None) -> bytes:
        """The response. ``wanted`` names the output tensors, in order; ``id_`` is the request's own."""
        tensors = [
            self._prediction(answers) if name == "prediction" else self._probabilities(answers) for name in wanted
        ]
        end = "]}" if id_ is None else f'],"id":{_text(id_)}}}'
        return f'{{"model_name":"{pipeline}",{self._head}{",".join(tensors)}{end}'.encode()

    def _prediction(self, answers: Answers) -> str:
        texts = self._texts
        data = ",".join([texts[v] if v in texts else _text(v) for v in answers.values])
        rows = len(answers.values)
        return f'{{"name":"prediction","datatype":"{self._datatype}","shape":[{rows}],"data":[{data}]}}'

    def _probabilities(self, answers: Answers) -> str:
        data = ",".join(answers.odds or ())
        shape = f"[{len(answers.values)},{self._classes}]"
        return f'{{"name":"probabilities","datatype":"FP32","shape":{shape},"data":[{data}]}}'


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
