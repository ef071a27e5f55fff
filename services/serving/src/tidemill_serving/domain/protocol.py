"""Open Inference Protocol v2 (REST): tensors to matrices and back."""

from typing import Any

import numpy as np

from tidemill_serving.domain.features import Layout, Matrices, matrices
from tidemill_serving.domain.model import Model, Predictions

_NUMBERS = {"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BOOL"}


class BadRequest(ValueError):
    """The request cannot be understood; the message says what and where."""


def _flat(tensor: Any, index: int) -> tuple[str, list[int], list[Any]]:
    if not isinstance(tensor, dict):
        raise BadRequest(f"inputs[{index}]: an object is expected")
    name, datatype, shape, data = (tensor.get(k) for k in ("name", "datatype", "shape", "data"))
    if not isinstance(name, str):
        raise BadRequest(f"inputs[{index}].name: a string is expected")
    if datatype not in _NUMBERS and datatype != "BYTES":
        raise BadRequest(f"inputs[{index}] {name!r}: unknown datatype {datatype!r}")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) not in (1, 2):
        raise BadRequest(f"inputs[{index}] {name!r}: shape must be [rows] or [rows, columns]")
    if not isinstance(data, list):
        raise BadRequest(f"inputs[{index}] {name!r}: data must be a list")
    flat = [v for row in data for v in (row if isinstance(row, list) else (row,))]
    expected = int(np.prod(shape))
    if len(flat) != expected:
        raise BadRequest(f"inputs[{index}] {name!r}: {len(flat)} values for shape {shape}, {expected} are expected")
    return name, shape, flat


def rows_of(request: Any, layout: Layout, max_rows: int) -> list[dict[str, Any]]:
    """Rows out of ``numeric`` and ``categorical`` matrices or one tensor a column. Raises BadRequest."""
    tensors = request.get("inputs") if isinstance(request, dict) else None
    if not isinstance(tensors, list) or not tensors:
        raise BadRequest("inputs: a list of at least one tensor is expected")
    columns: dict[str, list[Any]] = {}
    blocks = {"numeric": layout.numeric, "categorical": layout.categorical}
    for index, tensor in enumerate(tensors):
        name, shape, flat = _flat(tensor, index)
        names = blocks.get(name) if name not in (*layout.numeric, *layout.categorical) else None
        if names is not None:
            if len(shape) != 2 or shape[1] != len(names):
                raise BadRequest(f"inputs[{index}] {name!r}: shape must be [rows, {len(names)}]")
            columns |= {column: flat[i :: len(names)] for i, column in enumerate(names)}
        elif len(shape) == 2 and shape[1] != 1:
            raise BadRequest(f"inputs[{index}] {name!r}: a column has shape [rows] or [rows, 1]")
        else:
            columns[name] = flat
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise BadRequest(f"inputs: tensors of different numbers of rows: {sorted(lengths)}")
    count = lengths.pop()
    if count > max_rows:
        raise BadRequest(f"inputs: {count} rows, at most {max_rows} are allowed in one request")
    names_list = list(columns)
    return [dict(zip(names_list, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def inputs(rows: list[dict[str, Any]], layout: Layout) -> Matrices:
    """The matrices; one bad row refuses the request, as the protocol has no answer for part of it."""
    found, refusals = matrices(rows, layout)
    for number, refusal in enumerate(refusals):
        if refusal:
            raise BadRequest(f"row {number}: {refusal.message}")
    return found


def outputs(model: Model, answers: Predictions) -> list[dict[str, Any]]:
    """Output tensors: ``prediction``, and for classifiers ``probabilities`` [rows, classes]."""
    values: list[Any] = answers.values
    if model.task == "regression":
        return [{"name": "prediction", "datatype": "FP64", "shape": [len(values)], "data": values}]
    kinds = {type(c) for c in model.classes}
    datatype = {bool: "BOOL", int: "INT64", float: "FP64"}.get(kinds.pop(), "BYTES") if len(kinds) == 1 else "BYTES"
    if datatype == "BYTES":
        values = [str(v) for v in values]
    found = [{"name": "prediction", "datatype": datatype, "shape": [len(values)], "data": values}]
    if answers.probabilities is not None:
        p = answers.probabilities
        found.append(
            {"name": "probabilities", "datatype": "FP32", "shape": list(p.shape), "data": p.reshape(-1).tolist()}
        )
    return found


def metadata(name: str, model: Model, versions: list[str]) -> dict[str, Any]:
    """The model metadata document; the matrices' names, which single columns may stand in for."""
    tensors = [("numeric", "FP32", len(model.layout.numeric)), ("categorical", "BYTES", len(model.layout.categorical))]
    kinds: list[dict[str, Any]] = [{"name": n, "datatype": t, "shape": [-1, k]} for n, t, k in tensors if k]
    outs: list[dict[str, Any]] = [
        {k: v for k, v in o.items() if k != "data"} | {"shape": [-1, *o["shape"][1:]]}
        for o in outputs(model, Predictions([*model.classes[:1]] or [0.0], None))
    ]
    if model.task == "classification":
        outs.append({"name": "probabilities", "datatype": "FP32", "shape": [-1, len(model.classes)]})
    return {
        "name": name,
        "versions": versions,
        "platform": "tidemill_onnx",
        "inputs": kinds,
        "outputs": outs,
        "parameters": {
            "numeric": list(model.layout.numeric),
            "categorical": list(model.layout.categorical),
            "classes": list(model.classes),
        },
    }
