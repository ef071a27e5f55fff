"""A package under judgement, run from its bytes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Answers:
    """Of [n] rows: class indexes and probabilities [n, classes], or values."""

    labels: Array | None
    probabilities: Array | None
    values: Array | None


class Package:
    """ONNX bytes that answer, by the signature's columns."""

    def __init__(
        self,
        onnx: bytes,
        *,
        numeric: tuple[str, ...],
        categorical: tuple[str, ...],
        classify: bool,
        positive: int | None = None,
        threshold: float | None = None,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.numeric = numeric
        self.categorical = categorical
        self.classify = classify
        self._positive = positive
        self._threshold = threshold
        self._inputs = {i.name for i in self._session.get_inputs()}

    def answer(self, numbers: Array, strings: Array) -> Answers:
        """``numbers`` [n, k] float32, ``strings`` [n, m] str objects."""
        feed = {"numeric": numbers, "categorical": strings}
        names = ["label", "probabilities"] if self.classify else ["value"]
        out = self._session.run(names, {k: v for k, v in feed.items() if k in self._inputs})
        if not self.classify:
            return Answers(None, None, np.asarray(out[0], np.float64).reshape(-1))
        labels, p = np.asarray(out[0]).reshape(-1), np.asarray(out[1], np.float64)
        if self._threshold is not None and self._positive is not None and p.shape[1] == 2:
            labels = np.where(p[:, self._positive] >= self._threshold, self._positive, 1 - self._positive)
        return Answers(labels, p, None)
