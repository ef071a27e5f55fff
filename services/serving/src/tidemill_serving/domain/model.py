"""A loaded model: ONNX Runtime on contiguous arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tidemill_serving.domain.features import Layout, Matrices, matrices

Scalar = str | bool | int | float | None


@dataclass(frozen=True)
class Predictions:
    """One answer a row: the class or value, and for classifiers the probabilities [n, classes]."""

    values: list[Scalar]
    probabilities: NDArray[np.float32] | None


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
        # From bytes: no path means no external data beside it.
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.layout = layout
        self.task = task
        self.classes = classes
        self._positive = classes.index(positive) if positive in classes else None
        self._threshold = threshold
        self._outputs = ["label", "probabilities"] if task == "classification" else ["value"]
        self._wanted = {i.name for i in self._session.get_inputs()}

    def predict(self, rows: Matrices) -> Predictions:
        """Answers for [n] rows; n may be 0."""
        if not len(rows):
            return Predictions([], None)
        feed: dict[str, Any] = {"numeric": rows.numeric, "categorical": rows.categorical}
        out = self._session.run(self._outputs, {k: v for k, v in feed.items() if k in self._wanted})
        if self.task == "regression":
            return Predictions([float(v) for v in np.asarray(out[0]).reshape(-1)], None)
        labels, probabilities = np.asarray(out[0]).reshape(-1), np.asarray(out[1], np.float32)
        if self._threshold is not None and self._positive is not None and len(self.classes) == 2:
            p = probabilities[:, self._positive]
            labels = np.where(p >= self._threshold, self._positive, 1 - self._positive)
        return Predictions([self.classes[int(i)] for i in labels], probabilities)

    def prove(
        self, rows: list[dict[str, Any]], expected: list[tuple[Scalar, tuple[float, ...]]], tolerance: float
    ) -> None:
        """Answer the golden rows. Raises ValueError when an answer is not the expected one."""
        # Golden rows may hold categories the model has never seen: how it answers those is part of the proof.
        known = Layout(self.layout.numeric, self.layout.categorical, None)
        inputs, refusals = matrices(rows, known)
        if any(refusals):
            raise ValueError(f"a golden row does not fit the signature: {next(r for r in refusals if r)}")
        answers = self.predict(inputs)
        for i, (value, probabilities) in enumerate(expected):
            if self.task == "regression":
                scale = max(1.0, abs(float(value or 0.0)))
                if abs(float(answers.values[i] or 0.0) - float(value or 0.0)) > tolerance * scale:
                    raise ValueError(f"golden row {i}: {answers.values[i]} instead of {value}")
                continue
            if answers.probabilities is None:
                raise ValueError("no probabilities came back")
            worst = float(np.abs(answers.probabilities[i] - np.asarray(probabilities)).max())
            margin = abs(2 * max(probabilities) - 1) if len(probabilities) == 2 else 1.0
            if worst > tolerance or (answers.values[i] != value and margin > 4 * tolerance):
                raise ValueError(f"golden row {i}: off by {worst:.2g}, tolerance {tolerance:.2g}")
