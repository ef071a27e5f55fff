"""Open Inference Protocol v2 (REST): tensors to matrices and back."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from tidemill_serving.domain.cells import Cells, Part, checked
from tidemill_serving.domain.features import Layout
from tidemill_serving.domain.model import Model
from tidemill_serving.domain.tensor import BadRequest, Tensor, parameters, tensor

Columns = dict[str, list[Any]]
OUTPUTS = {"regression": ("prediction",), "classification": ("prediction", "probabilities")}


def read(request: Any, layout: Layout, max_rows: int) -> Part:
    """``numeric`` and ``categorical`` matrices, or one tensor a column, as what a model is given. Raises BadRequest.

    What most clients send, both matrices in order, comes back as cells: their values are looked at with their call's.
    """
    given = _tensors(request)
    cells = _cells(given, layout, max_rows)
    if cells is not None:
        return cells
    columns, kinds = _columns(given, layout)
    count = _count(columns, max_rows)
    if all(kinds.get(name, "BYTES") != "BYTES" for name in layout.numeric) and all(
        kinds.get(name) == "BYTES" for name in layout.categorical
    ):
        return Cells(count, _by_row(columns, layout.numeric), _by_row(columns, layout.categorical))
    # Something is not as it should be: the rules for single rows find the cell and name it.
    return checked([dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)], layout)


def _cells(given: list[Tensor], layout: Layout, max_rows: int) -> Cells | None:
    """Both matrices, and nothing else, as lists. None leaves the verdict to the other way."""
    if len(given) != 2:
        return None
    numeric, categorical = given if given[0].name == "numeric" else given[::-1]
    if numeric.name != "numeric" or categorical.name != "categorical" or layout.clashing:
        return None
    count = numeric.shape[0]
    if not 0 < count <= max_rows or numeric.datatype == "BYTES" or categorical.datatype != "BYTES":
        return None
    if numeric.shape != [count, len(layout.numeric)] or categorical.shape != [count, len(layout.categorical)]:
        return None
    return Cells(count, numeric.flat, categorical.flat)


def _tensors(request: Any) -> list[Tensor]:
    tensors = request.get("inputs") if isinstance(request, dict) else None
    if not isinstance(tensors, list) or not tensors:
        raise BadRequest("inputs: a list of at least one tensor is expected")
    if not isinstance(request.get("id", ""), str):
        raise BadRequest("id: a string is expected")
    parameters(request.get("parameters"), "request")
    return [tensor(value, f"inputs[{index}]") for index, value in enumerate(tensors)]


def _columns(given: list[Tensor], layout: Layout) -> tuple[Columns, dict[str, str]]:
    """Each column's values and datatype."""
    blocks = {"numeric": layout.numeric, "categorical": layout.categorical}
    columns: Columns = {}
    kinds: dict[str, str] = {}
    for index, each in enumerate(given):
        found = _of_tensor(each, f"inputs[{index}]", blocks)
        if found.keys() & columns.keys():
            raise BadRequest(f"inputs[{index}] {each.name!r}: given twice")
        columns |= found
        kinds |= dict.fromkeys(found, each.datatype)
    return columns, kinds


def _by_row(columns: Columns, names: tuple[str, ...]) -> list[Any]:
    if len(columns[names[0]] if names else ()) == 1:
        return [columns[name][0] for name in names]
    return list(chain.from_iterable(zip(*[columns[name] for name in names], strict=True)))


def _of_tensor(given: Tensor, where: str, blocks: dict[str, tuple[str, ...]]) -> Columns:
    if given.name in blocks["numeric"] or given.name in blocks["categorical"]:
        if len(given.shape) == 2 and given.shape[1] != 1:
            raise BadRequest(f"{where} {given.name!r}: a column has shape [rows] or [rows, 1]")
        return {given.name: given.flat}
    names = blocks.get(given.name)
    if names is None:
        raise BadRequest(f"{where}: the model has no input {given.name[:128]!r}")
    if len(given.shape) != 2 or given.shape[1] != len(names):
        raise BadRequest(f"{where} {given.name!r}: shape must be [rows, {len(names)}]")
    return {column: given.flat[i :: len(names)] for i, column in enumerate(names)}


def _count(columns: Columns, max_rows: int) -> int:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise BadRequest(f"inputs: tensors of different numbers of rows: {sorted(lengths)}")
    count = lengths.pop()
    if not 0 < count <= max_rows:
        raise BadRequest(f"inputs: {count} rows, from 1 to {max_rows} are allowed in one request")
    return count


def wanted(request: dict[str, Any], model: Model) -> tuple[str, ...]:
    """The output tensors a request names, in its order; all of them when it names none. Raises BadRequest."""
    there = OUTPUTS[model.task]
    asked = request.get("outputs")
    if asked is None or asked == []:
        return there
    if not isinstance(asked, list) or not all(isinstance(o, dict) and isinstance(o.get("name"), str) for o in asked):
        raise BadRequest("outputs: a list of objects with a name is expected")
    for index, output in enumerate(asked):
        parameters(output.get("parameters"), f"outputs[{index}]")
        if output["name"] not in there:
            name = output["name"][:128]
            raise BadRequest(f"outputs[{index}]: the model has no output {name!r}, only {sorted(there)}")
    return tuple([o["name"] for o in asked])


def datatype(model: Model) -> str:
    """Of the tensor ``prediction``."""
    if model.task == "regression":
        return "FP64"
    kinds = {type(c) for c in model.classes}
    return {bool: "BOOL", int: "INT64", float: "FP64"}.get(kinds.pop(), "BYTES") if len(kinds) == 1 else "BYTES"


def metadata(name: str, model: Model, versions: Sequence[str]) -> dict[str, Any]:
    """The model metadata document; the matrices' names, which single columns may stand in for."""
    tensors = [("numeric", "FP32", len(model.layout.numeric)), ("categorical", "BYTES", len(model.layout.categorical))]
    outs: list[dict[str, Any]] = [{"name": "prediction", "datatype": datatype(model), "shape": [-1]}]
    if model.task == "classification":
        outs.append({"name": "probabilities", "datatype": "FP32", "shape": [-1, len(model.classes)]})
    return {
        "name": name,
        "versions": list(versions),
        "platform": "tidemill_onnx",
        "inputs": [{"name": n, "datatype": t, "shape": [-1, k]} for n, t, k in tensors if k],
        "outputs": outs,
        "parameters": {
            "numeric": list(model.layout.numeric),
            "categorical": list(model.layout.categorical),
            "classes": list(model.classes),
        },
    }
