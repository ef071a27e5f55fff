"""A tensor of the Open Inference Protocol (JSON): what it claims is checked before anything is made of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

BITS = {f"{sign}INT{bits}": bits for sign in ("", "U") for bits in (8, 16, 32, 64)}
LARGEST = {"FP16": 65504.0, "FP32": 3.4028234663852886e38, "FP64": math.inf}
"""Largest finite values (IEEE 754); every finite JSON number is an FP64."""
DATATYPES = ("BOOL", *BITS, *LARGEST, "BYTES")
_DATATYPES = frozenset(DATATYPES)
_NONE = type(None)
_PARAMETERS = (str, bool, int, float)


class BadRequest(ValueError):
    """The request cannot be understood; the message says what and where."""


@dataclass(slots=True)
class Tensor:
    """``flat`` are its values in row-major order, None for missing."""

    name: str
    datatype: str
    shape: list[int]
    flat: list[Any]


def tensor(value: Any, where: str) -> Tensor:
    """A JSON value as a tensor of one or two dimensions. Raises BadRequest."""
    if not isinstance(value, dict):
        raise BadRequest(f"{where}: an object is expected")
    name, datatype, shape, data = value.get("name"), value.get("datatype"), value.get("shape"), value.get("data")
    if not isinstance(name, str):
        raise BadRequest(f"{where}.name: a string is expected")
    if not isinstance(datatype, str) or datatype not in _DATATYPES:
        raise BadRequest(f"{where} {name[:128]!r}: unknown datatype {str(datatype)[:32]!r}")
    if not isinstance(shape, list) or len(shape) not in (1, 2) or not _counts(shape):
        raise BadRequest(f"{where} {name[:128]!r}: shape must be [rows] or [rows, columns]")
    if not isinstance(data, list):
        raise BadRequest(f"{where} {name[:128]!r}: data must be a list; the binary extension is not supported")
    if "parameters" in value:
        parameters(value["parameters"], f"{where} {name[:128]!r}")
    nested = bool(data) and type(data[0]) is list and all(type(row) is list for row in data)
    flat = list(chain.from_iterable(data)) if nested else data
    size = math.prod(shape)
    if len(flat) != size:
        raise BadRequest(f"{where} {name[:128]!r}: {len(flat)} values for shape {shape}, {size} are expected")
    if not _holds(datatype, flat):
        raise BadRequest(f"{where} {name[:128]!r}: data must hold {datatype} values (or null for a missing one)")
    return Tensor(name, datatype, shape, flat)


def parameters(value: Any, where: str) -> Mapping[str, Any]:
    """The protocol's ``parameters``: names with strings, numbers or booleans. Raises BadRequest."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, _PARAMETERS) for v in value.values()):
        raise BadRequest(f"{where}.parameters: an object of strings, numbers and booleans is expected")
    return value


def _counts(shape: list[Any]) -> bool:
    for n in shape:  # noqa: SIM110 - a generator costs more than the loop
        if type(n) is not int or n < 0:
            return False
    return True


def _holds(datatype: str, flat: list[Any]) -> bool:
    kinds = set(map(type, flat))
    kinds.discard(_NONE)
    if datatype == "BYTES":
        return kinds <= {str}
    if datatype == "BOOL":
        return kinds <= {bool}
    if datatype in LARGEST:
        return kinds <= {float, int} and (datatype != "FP16" or _within(flat, -LARGEST["FP16"], LARGEST["FP16"]))
    bits = BITS[datatype]
    if datatype.startswith("U"):
        return kinds <= {int} and _within(flat, 0, 2**bits - 1)
    return kinds <= {int} and _within(flat, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _within(flat: list[Any], low: float, high: float) -> bool:
    values = [v for v in flat if v is not None] or [0]
    return bool(low <= min(values) and max(values) <= high)
