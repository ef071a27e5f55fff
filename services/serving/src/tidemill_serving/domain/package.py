"""A package's files into a model that has answered its golden rows: for the service, its children, and programs of
others alike."""

from collections.abc import Mapping
from typing import Any

from tidemill_serving.domain.features import Layout
from tidemill_serving.domain.golden import prove
from tidemill_serving.domain.model import Model


def model_of(onnx: bytes, signature: Mapping[str, Any], threads: int = 1) -> Model:
    """The model that ``signature.json`` describes. Raises KeyError, TypeError, or what ONNX Runtime raises."""
    known = {name: frozenset(values) for name, values in signature["categories"].items()}
    layout = Layout(
        tuple(signature["numeric"]),
        tuple(signature["categorical"]),
        known if signature["unknown_categories"] == "reject" else None,
    )
    return Model(
        onnx,
        layout,
        task=signature["task"],
        classes=tuple(signature["classes"]),
        positive=signature.get("positive"),
        threshold=signature.get("threshold"),
        threads=threads,
    )


def proven(model: Model, golden: Mapping[str, Any]) -> Model:
    """The same model, once it has answered ``golden.json``. Raises ValueError when it answers otherwise."""
    predictions = golden["predictions"]
    expected = [(each["prediction"], each.get("probabilities") or ()) for each in predictions]
    prove(model, [each["features"] for each in predictions], expected, golden["tolerance"])
    return model
