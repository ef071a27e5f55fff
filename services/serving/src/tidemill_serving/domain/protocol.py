"""Open Inference Protocol v2 (REST): tensors to matrices and back."""

import math
from itertools import chain
from typing import Any

from tidemill_serving.domain.features import Layout, Matrices, matrices
from tidemill_serving.domain.model import Model, Predictions

_BITS = {f"{sign}INT{bits}": bits for sign in ("", "U") for bits in (8, 16, 32, 64)}
_FLOATS = {"FP16", "FP32", "FP64"}


class BadRequest(ValueError):
    """The request cannot be understood; the message says what and where."""


def rows_of(request: Any, layout: Layout, max_rows: int) -> list[dict[str, Any]]:
    """Rows out of ``numeric`` and ``categorical`` matrices or one tensor a column. Raises BadRequest."""
    tensors = request.get("inputs") if isinstance(request, dict) else None
    if not isinstance(tensors, list) or not tensors:
        raise BadRequest("inputs: a list of at least one tensor is expected")
    features = {*layout.numeric, *layout.categorical}
    blocks = {"numeric": layout.numeric, "categorical": layout.categorical}
    columns: dict[str, list[Any]] = {}
    for index, tensor in enumerate(tensors):
        name, shape, flat = _tensor(tensor, f"inputs[{index}]")
        if name in features:
            if len(shape) == 2 and shape[1] != 1:
                raise BadRequest(f"inputs[{index}] {name!r}: a column has shape [rows] or [rows, 1]")
            found = {name: flat}
        elif name in blocks:
            names = blocks[name]
            if len(shape) != 2 or shape[1] != len(names):
                raise BadRequest(f"inputs[{index}] {name!r}: shape must be [rows, {len(names)}]")
            found = {column: flat[i :: len(names)] for i, column in enumerate(names)}
        else:
            raise BadRequest(f"inputs[{index}]: the model has no input {name!r}")
        if found.keys() & columns.keys():
            raise BadRequest(f"inputs[{index}] {name!r}: given twice")
        columns |= found
    return _rows(columns, max_rows)


def _rows(columns: dict[str, list[Any]], max_rows: int) -> list[dict[str, Any]]:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise BadRequest(f"inputs: tensors of different numbers of rows: {sorted(lengths)}")
    count = lengths.pop()
    if not 0 < count <= max_rows:
        raise BadRequest(f"inputs: {count} rows, from 1 to {max_rows} are allowed in one request")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _tensor(tensor: Any, where: str) -> tuple[str, list[int], list[Any]]:
    """Name, shape and the values in row-major order."""
    if not isinstance(tensor, dict):
        raise BadRequest(f"{where}: an object is expected")
    name, datatype, shape, data = (tensor.get(k) for k in ("name", "datatype", "shape", "data"))
    if not isinstance(name, str):
        raise BadRequest(f"{where}.name: a string is expected")
    where = f"{where} {name[:128]!r}"
    if not isinstance(datatype, str) or datatype not in {*_BITS, *_FLOATS, "BOOL", "BYTES"}:
        raise BadRequest(f"{where}: unknown datatype {str(datatype)[:32]!r}")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) not in (1, 2):
        raise BadRequest(f"{where}: shape must be [rows] or [rows, columns]")
    if not isinstance(data, list):
        raise BadRequest(f"{where}: data must be a list; the binary extension is not supported")
    flat = list(chain.from_iterable(data)) if data and all(type(row) is list for row in data) else data
    if len(flat) != math.prod(shape):
        raise BadRequest(f"{where}: {len(flat)} values for shape {shape}, {math.prod(shape)} are expected")
    if not _holds(datatype, flat):
        raise BadRequest(f"{where}: data must hold {datatype} values (or null for a missing one)")
    return name, shape, flat


def _holds(datatype: str, flat: list[Any]) -> bool:
    kinds = set(map(type, flat)) - {type(None)}
    if datatype == "BYTES":
        return kinds <= {str}
    if datatype == "BOOL":
        return kinds <= {bool}
    if datatype in _FLOATS:
        return kinds <= {float, int}
    if not kinds <= {int}:
        return False
    values = [v for v in flat if v is not None] or [0]
    bits = _BITS[datatype]
    low, high = (0, 2**bits - 1) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return bool(low <= min(values) and max(values) <= high)


def inputs(rows: list[dict[str, Any]], layout: Layout) -> Matrices:
    """The matrices; one bad row refuses the request, as the protocol has no answer for part of it."""
    found, refusals = matrices(rows, layout)
    for number, refusal in enumerate(refusals):
        if refusal:
            raise BadRequest(f"row {number}: {refusal.message}")
    return found


def outputs(model: Model, answers: Predictions) -> list[dict[str, Any]]:
    """Output tensors: ``prediction``, and for classifiers ``probabilities`` [rows, classes]."""
    values: list[Any] = [str(v) for v in answers.values] if _datatype(model) == "BYTES" else answers.values
    found = [{"name": "prediction", "datatype": _datatype(model), "shape": [len(values)], "data": values}]
    if answers.probabilities is not None:
        p = answers.probabilities
        found.append(
            {"name": "probabilities", "datatype": "FP32", "shape": list(p.shape), "data": p.reshape(-1).tolist()}
        )
    return found


def chosen(found: list[dict[str, Any]], request: dict[str, Any]) -> list[dict[str, Any]]:
    """The output tensors a request names, in its order; all of them when it names none. Raises BadRequest."""
    asked = request.get("outputs") or []
    if not isinstance(asked, list) or not all(isinstance(o, dict) and isinstance(o.get("name"), str) for o in asked):
        raise BadRequest("outputs: a list of objects with a name is expected")
    by_name = {tensor["name"]: tensor for tensor in found}
    unknown = next((o["name"] for o in asked if o["name"] not in by_name), None)
    if unknown is not None:
        raise BadRequest(f"outputs: the model has no output {unknown!r}, only {sorted(by_name)}")
    return [by_name[o["name"]] for o in asked] or found


def _datatype(model: Model) -> str:
    if model.task == "regression":
        return "FP64"
    kinds = {type(c) for c in model.classes}
    return {bool: "BOOL", int: "INT64", float: "FP64"}.get(kinds.pop(), "BYTES") if len(kinds) == 1 else "BYTES"


def metadata(name: str, model: Model, versions: list[str]) -> dict[str, Any]:
    """The model metadata document; the matrices' names, which single columns may stand in for."""
    tensors = [("numeric", "FP32", len(model.layout.numeric)), ("categorical", "BYTES", len(model.layout.categorical))]
    outs: list[dict[str, Any]] = [{"name": "prediction", "datatype": _datatype(model), "shape": [-1]}]
    if model.task == "classification":
        outs.append({"name": "probabilities", "datatype": "FP32", "shape": [-1, len(model.classes)]})
    return {
        "name": name,
        "versions": versions,
        "platform": "tidemill_onnx",
        "inputs": [{"name": n, "datatype": t, "shape": [-1, k]} for n, t, k in tensors if k],
        "outputs": outs,
        "parameters": {
            "numeric": list(model.layout.numeric),
            "categorical": list(model.layout.categorical),
            "classes": list(model.classes),
        },
    }
