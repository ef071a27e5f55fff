"""The packaged model, run."""

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]


class Packaged:
    """ONNX bytes that answer."""

    def __init__(self, onnx: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.inputs = [(i.name, i.type, i.shape) for i in self._session.get_inputs()]
        self.outputs = [(o.name, o.type, o.shape) for o in self._session.get_outputs()]

    def run(self, numeric: Array, categorical: Array) -> list[Array]:
        """Outputs in order for [n, k] float32 and [n, m] strings."""
        names = {name for name, _, _ in self.inputs}
        feed = {"numeric": numeric, "categorical": categorical}
        found: list[Array] = self._session.run(None, {k: v for k, v in feed.items() if k in names})
        return [np.asarray(a) for a in found]
