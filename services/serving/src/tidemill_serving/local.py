"""A package in a folder, answered by numpy and onnxruntime alone: the code that the service answers with."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tidemill_serving.domain.features import Layout, Matrices, matrices
from tidemill_serving.domain.model import Model, Predictions, Scalar
from tidemill_serving.domain.package import model_of, proven

_NEEDED = ("model.onnx", "signature.json", "golden.json")


class Answer(NamedTuple):
    """A prediction, or why there is none: ``error``, the feature it is about, and a sentence."""

    prediction: Scalar
    probabilities: tuple[float, ...] = ()
    """In the order of ``Predict.classes``."""
    error: str | None = None
    field: str | None = None
    message: str | None = None


class Predict:
    """Call it with rows."""

    def __init__(self, model: Model, manifest: Mapping[str, Any]) -> None:
        self._model = model
        self.version: str = manifest["version"]
        self.dataset_version: str = manifest["dataset_version"]
        self.classes = model.classes

    @property
    def layout(self) -> Layout:
        """The columns the model reads, in order, and the categories it knows."""
        return self._model.layout

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """One answer a row, in order. A row maps names of features to numbers, strings or None for missing."""
        inputs, refusals = matrices(rows, self.layout)
        predicted = iter(_answers(self.arrays(inputs.numeric, inputs.categorical)))
        return [Answer(None, (), r.error, r.field, r.message) if r else next(predicted) for r in refusals]

    def arrays(self, numeric: Any, categorical: Any) -> Predictions:
        """For volume, without a look at the values: [n, k] float32 with NaN and [n, m] objects with "" for missing."""
        return self._model.predict(Matrices(numeric, categorical))


def load(package: str | Path, *, threads: int = 1, sha256: str | None = None) -> Predict:
    """The model in a folder, with every file as the manifest says, and its golden rows answered.

    ``sha256`` is the manifest's own, where it is known from elsewhere (an event, the registry): the signature beside it
    is not looked at here. Raises FileNotFoundError, or ValueError: a file is not the one that was packaged, or the
    model answers otherwise.
    """
    folder = Path(package)
    raw = (folder / "manifest.json").read_bytes()
    if sha256 is not None and hashlib.sha256(raw).hexdigest() != sha256:
        raise ValueError(f"{folder / 'manifest.json'} is not the manifest with this digest")
    manifest = json.loads(raw)
    files = {name: _verified(folder / name, manifest["files"][name]["sha256"]) for name in _NEEDED}
    model = model_of(files["model.onnx"], json.loads(files["signature.json"]), threads)
    return Predict(proven(model, json.loads(files["golden.json"])), manifest)


def _verified(path: Path, sha256: str) -> bytes:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path} is not the file that was packaged")
    return data


def _answers(found: Predictions) -> list[Answer]:
    odds: list[list[float]] = [] if found.probabilities is None else found.probabilities.tolist()
    failed = Answer(None, (), "model_failed", None, "the model gave no finite answer")
    return [
        failed if value is None else Answer(value, tuple(odds[i]) if odds else ())
        for i, value in enumerate(found.values)
    ]
