"""Trained pipeline to ONNX bytes."""

import warnings
from collections.abc import Iterator
from typing import Any

import onnx
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType

DOMAINS = frozenset({"", "ai.onnx.ml"})
ML_OPSET = 3
_TREES = ("RandomForest", "ExtraTrees", "GradientBoosting", "DecisionTree")
_SCALERS = ("StandardScaler", "MinMaxScaler", "RobustScaler", "MaxAbsScaler", "PowerTransformer", "QuantileTransformer")


class UnconvertibleError(ValueError):
    """The model is of a kind that does not convert, or converts wrongly."""


def parts(model: Any) -> Iterator[Any]:
    """The fitted transformers and estimators inside pipelines and column transformers."""
    if hasattr(model, "steps"):
        inner = [step for _, step in model.steps]
    elif hasattr(model, "transformers_"):
        inner = [transformer for _, transformer, _ in model.transformers_]
    else:
        yield model
        return
    for part in inner:
        if not isinstance(part, str) and part is not None:
            yield from parts(part)


def check(model: Any) -> None:
    """Refuse what is known to convert silently wrong or to fail at run time. Raises UnconvertibleError."""
    for part in parts(model):
        name = type(part).__name__
        if getattr(part, "is_categorical_", None) is not None:
            # sklearn-onnx issue 1051: up to half of the labels come out flipped.
            raise UnconvertibleError(f"{name} with native categories converts wrongly: encode them before the model")
        if getattr(part, "handle_unknown", None) == "infrequent_if_exist":
            raise UnconvertibleError(f"{name}: handle_unknown={part.handle_unknown!r} fails at run time, use 'ignore'")
        if hasattr(part, "tokenizer") and getattr(part, "lowercase", False):
            raise UnconvertibleError(f"{name}: lowercase=True needs a locale that slim images lack")


def cautions(model: Any) -> list[str]:
    """What converts, but is better avoided."""
    names = [type(part).__name__ for part in parts(model)]
    scaled = next((n for n in names if n in _SCALERS), None)
    if scaled and any(tree in names[-1] for tree in _TREES):
        return [f"{scaled} before trees: float32 rounding of scaled values can change sides of a split"]
    return []


def convert(model: Any, *, numeric: int, categorical: int, classify: bool, opset: int) -> bytes:
    """ONNX bytes with inputs ``numeric`` [n, k] and ``categorical`` [n, m] (those that have columns) and outputs
    ``label`` and ``probabilities``, or ``value``. The same model gives the same bytes. Raises UnconvertibleError."""
    check(model)
    types: list[tuple[str, Any]] = []
    if numeric:
        types.append(("numeric", FloatTensorType([None, numeric])))
    if categorical:
        types.append(("categorical", StringTensorType([None, categorical])))
    with warnings.catch_warnings():
        # skl2onnx writes booleans into integer attributes, which protobuf 6 takes and warns of, and protobuf 7 refuses.
        warnings.filterwarnings("ignore", message="Field onnx.AttributeProto", category=DeprecationWarning)
        converted = convert_sklearn(
            model,
            name="tidemill",
            initial_types=types,
            options={id(model[-1]): {"zipmap": False}} if classify else None,
            target_opset={"": opset, "ai.onnx.ml": ML_OPSET},
        )
    _rename(converted, ["label", "probabilities"] if classify else ["value"])
    foreign = {node.domain for node in converted.graph.node} - DOMAINS
    if foreign:
        raise UnconvertibleError(f"operators of foreign domains: {sorted(foreign)}")
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
