"""Trained pipeline to ONNX bytes."""

from typing import Any

import onnx
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType

DOMAINS = {"", "ai.onnx.ml"}


class Unconvertible(ValueError):
    """The model is of a kind that does not convert, or converts wrongly."""


def check(model: Any) -> None:
    """Refuse what is known to convert silently wrong. Raises Unconvertible."""
    estimator = model[-1]
    if getattr(estimator, "categorical_features", None) is not None:
        # sklearn-onnx issue 1051: up to half of the labels come out flipped.
        raise Unconvertible("boosted trees with native categories convert wrongly: encode categories before the model")
    for _, transformer, _ in model[0].transformers_:
        if getattr(transformer, "handle_unknown", "ignore") not in ("ignore", "error"):
            raise Unconvertible(f"{type(transformer).__name__}: handle_unknown must be 'ignore'")


def convert(model: Any, *, numeric: int, categorical: int, classify: bool, opset: int) -> bytes:
    """ONNX bytes with inputs ``numeric`` and ``categorical`` (those that have columns) and outputs ``label`` and
    ``probabilities``, or ``value``. The same model gives the same bytes."""
    check(model)
    types: list[tuple[str, Any]] = []
    if numeric:
        types.append(("numeric", FloatTensorType([None, numeric])))
    if categorical:
        types.append(("categorical", StringTensorType([None, categorical])))
    options = {id(model[-1]): {"zipmap": False}} if classify else None
    converted = convert_sklearn(
        model,
        name="tidemill",
        initial_types=types,
        options=options,
        target_opset={"": opset, "ai.onnx.ml": 3},
    )
    _rename(converted, ["label", "probabilities"] if classify else ["value"])
    used = {node.domain for node in converted.graph.node}
    if not used <= DOMAINS:
        raise Unconvertible(f"operators of foreign domains: {sorted(used - DOMAINS)}")
    onnx.checker.check_model(converted)
    data: bytes = converted.SerializeToString(deterministic=True)
    return data


def _rename(model: Any, names: list[str]) -> None:
    old = [output.name for output in model.graph.output]
    mapping = dict(zip(old, names, strict=True))
    for node in model.graph.node:
        node.output[:] = [mapping.get(name, name) for name in node.output]
        node.input[:] = [mapping.get(name, name) for name in node.input]
    for output in model.graph.output:
        output.name = mapping[output.name]
