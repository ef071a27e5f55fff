"""A loaded model: ONNX Runtime on contiguous arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tidemill_serving.domain.features import Layout, Matrices

Scalar = str | bool | int | float | None


@dataclass(frozen=True)
class Predictions:
    """One answer a row: the class or value, and for classifiers the probabilities [n, classes] in class order.

    A row whose value or probabilities are not finite has the value None: the model gave it no answer.
    """

    values: list[Scalar]
    probabilities: NDArray[np.float32] | None

    def __getitem__(self, rows: slice) -> "Predictions":
        return Predictions(self.values[rows], None if self.probabilities is None else self.probabilities[rows])


class Model:
    """Answers rows. Thread-safe: sessions are, and nothing else changes after loading."""

    def __init__(
        self,
        onnx: bytes,
        layout: Layout,
        *,
        task: str,
        classes: tuple[Scalar, ...],
        positive: Scalar = None,
        threshold: float | None = None,
        threads: int = 1,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Bytes alone do not keep a graph from naming files beside it, which would be looked for in the working
        # directory: a folder that cannot exist does.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/dev/null/none")
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.size = len(onnx)
        """Bytes of the graph."""
        self.layout = layout
        self.task = task
        self.classes = classes
        # The two go together: a threshold is one on the probability of the positive class of two.
        binary = len(classes) == 2 and positive in classes
        self.positive = classes.index(positive) if binary else 0
        self._threshold = threshold if binary else None
        self._outputs = ["label", "probabilities"] if task == "classification" else ["value"]
        self._wanted = {i.name for i in self._session.get_inputs()}

    def predict(self, rows: Matrices) -> Predictions:
        """Answers for [n] rows; n may be 0. Raises what ONNX Runtime raises when the graph fails on a row."""
        if not len(rows):
            none = np.empty((0, len(self.classes)), np.float32)
            return Predictions([], none if self.task == "classification" else None)
        feed: dict[str, Any] = {"numeric": rows.numeric, "categorical": rows.categorical}
        out = self._session.run(self._outputs, {k: v for k, v in feed.items() if k in self._wanted})
        if self.task == "regression":
            values = np.asarray(out[0], np.float64).reshape(-1)
            return Predictions(
                [v if ok else None for v, ok in zip(values.tolist(), np.isfinite(values), strict=True)], None
            )
        labels, probabilities = np.asarray(out[0]).reshape(-1), np.asarray(out[1], np.float32)
        if self._threshold is not None:
            # In float64, in which the threshold was chosen: in float32 the two could change sides.
            odds = probabilities[:, self.positive].astype(np.float64)
            labels = np.where(odds >= self._threshold, self.positive, 1 - self.positive)
        finite: list[bool] = np.asarray(np.isfinite(probabilities).all(axis=1)).tolist()
        return Predictions(
            [self.classes[i] if ok else None for i, ok in zip(labels.tolist(), finite, strict=True)], probabilities
        )

    def undecided(self, probabilities: Sequence[float], tolerance: float) -> bool:
        """Whether a change of every probability by ``tolerance`` could change the answer."""
        if self._threshold is not None:
            return abs(probabilities[self.positive] - self._threshold) <= tolerance
        first, second = sorted(probabilities, reverse=True)[:2]
        return first - second <= 2 * tolerance
