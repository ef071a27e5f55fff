"""The model that peers with ONNX are given, asked with two arrays. Runs in the environments of the peers."""

import os
from typing import Any

import numpy as np
import onnxruntime

NUMERIC = [f"number_{i}" for i in range(20)]
CATEGORICAL = [f"kind_{i}" for i in range(5)]


class Session:
    """The model in the file that ``ONNX_FILE`` names, on one thread."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ["ONNX_FILE"], options, providers=["CPUExecutionProvider"]
        )

    def odds(self, numeric: Any, categorical: Any) -> Any:
        """P(positive) of [n] rows."""
        return self._session.run(["probabilities"], {"numeric": numeric, "categorical": categorical})[0][:, 1]

    def odds_of(self, rows: list[dict[str, Any]]) -> list[float]:
        """The same of rows as objects."""
        numeric = np.array([[row[name] for name in NUMERIC] for row in rows], np.float32)
        categorical = np.array([[row[name] for name in CATEGORICAL] for row in rows], object)
        return self.odds(numeric, categorical).tolist()
