"""A package under judgement, run from its bytes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tidemill_validation.domain.answers import Answers

Array = NDArray[Any]


class Package:
    """ONNX bytes that answer, by the signature's columns."""

    def __init__(
        self,
        onnx: bytes,
        *,
        numeric: Sequence[str],
        categorical: Sequence[str],
        classify: bool,
        positive: int | None = None,
        threshold: float | None = None,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        # Bytes could still name files beside them, which would be looked for in the working directory.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/dev/null/none")
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self._inputs = [i.name for i in self._session.get_inputs()]
        self.numeric = numeric
        self.categorical = categorical
        self.classify = classify
        self._positive = positive
        self._threshold = threshold

    def answer(self, numbers: Array, strings: Array) -> Answers:
        """``numbers`` [n, k] float32, ``strings`` [n, m] str objects."""
        feed = {"numeric": numbers, "categorical": strings}
        names = ["label", "probabilities"] if self.classify else ["value"]
        out = self._session.run(names, {name: feed[name] for name in self._inputs})
        if not self.classify:
            return Answers(values=np.asarray(out[0], np.float64).reshape(-1))
        labels, p = np.asarray(out[0], np.int64).reshape(-1), np.asarray(out[1], np.float64)
        if self._threshold is not None and self._positive is not None and p.shape[1] == 2:
            labels = np.where(p[:, self._positive] >= self._threshold, self._positive, 1 - self._positive)
        return Answers(labels, p)
