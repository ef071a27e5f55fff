"""The packaged model, run."""

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]
_DATATYPES = {"tensor(float)": "FP32", "tensor(double)": "FP64", "tensor(string)": "BYTES", "tensor(int64)": "INT64"}
"""Open Inference Protocol names."""


class Packaged:
    """ONNX bytes that answer."""

    def __init__(self, onnx: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(_described(tensor) for tensor in self._session.get_inputs())
        self.outputs = tuple(_described(tensor) for tensor in self._session.get_outputs())

    def run(self, numeric: Array, categorical: Array) -> list[Array]:
        """Outputs in order for [n, k] float32 and [n, m] strings."""
        feed = {"numeric": numeric, "categorical": categorical}
        found = self._session.run(None, {name: feed[name] for name, _, _ in self.inputs})
        return [np.asarray(a) for a in found]


def _described(tensor: Any) -> tuple[str, str, tuple[int, ...]]:
    """Name, type, shape; -1 is the number of rows."""
    return tensor.name, _DATATYPES[tensor.type], tuple(d if isinstance(d, int) else -1 for d in tensor.shape)
