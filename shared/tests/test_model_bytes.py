"""Hostile models are refused before a runtime sees them, and those of every kind we make are not."""

import random

import pytest
from onnx import TensorProto, helper

from tidemill_shared.errors import Poison
from tidemill_shared.model_bytes import ALLOWED, UnsafeModel, check_model


def model(*nodes: object, initializers: tuple[object, ...] = (), **more: object) -> bytes:
    made = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, None)],
        list(initializers),
    )
    return bytes(helper.make_model(made, **more).SerializeToString())


def identity(**attributes: object) -> object:
    return helper.make_node("Identity", ["numeric"], ["value"], **attributes)


def far_away(file: str = "/etc/passwd") -> object:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", file
    return tensor


def inner() -> object:
    return helper.make_graph([], "inner", [], [])


def function() -> object:
    return helper.make_function("evil", "Mine", ["a"], ["b"], [], [helper.make_opsetid("", 18)])


def sparse() -> object:
    values = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    return helper.make_sparse_tensor(values, helper.make_tensor("i", TensorProto.INT64, [1], [0]), [1])


def by_hand(last: bytes) -> bytes:
    """A model of one node and one tensor, whose last bytes are these."""
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0]).SerializeToString() + last
    graph = helper.make_graph([identity()], "graph", [], []).SerializeToString() + bytes([0x2A, len(tensor)]) + tensor
    return bytes([0x3A, len(graph)]) + graph


HOSTILE = {
    "a foreign domain": model(helper.make_node("Custom", ["numeric"], ["value"], domain="com.example")),
    "an operator of the runtime's own": model(helper.make_node("Attention", ["a"], ["b"], domain="com.microsoft")),
    "a loop": model(helper.make_node("Loop", ["m", "c"], ["value"], body=inner())),
    "a branch": model(helper.make_node("If", ["c"], ["value"], then_branch=inner(), else_branch=inner())),
    "chance": model(helper.make_node("RandomNormal", [], ["value"], shape=[1])),
    "a decoder of images": model(helper.make_node("ImageDecoder", ["numeric"], ["value"])),
    "a graph under an allowed name": model(identity(body=inner())),
    "graphs under an allowed name": model(identity(bodies=[inner()])),
    "data outside": model(identity(), initializers=(far_away(),)),
    "data outside, in a constant": model(helper.make_node("Constant", [], ["value"], value=far_away())),
    "functions": model(identity(), functions=[function()]),
    "a sparse constant": model(helper.make_node("Constant", [], ["value"], sparse_value=sparse())),
    "no node": model(),
    "no graph": b"\x08\x09",
    "nothing": b"",
    "two graphs": model(identity()) + model(identity()),
    "the runtime's own format": b"\x12\x06\x00\x00ORTM" + model(identity()),
    "a location of 64 bits that is cut to 1": by_hand(b"\x70\x81\x80\x80\x80\x10"),
    "text": b"ir_version: 9",
    "a number without an end": b"\xff" * 20,
    "a length beyond the end": b"\x3a\xff\xff\xff\xff\x07",
    "a group": b"\x3b\x3c",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_models_are_refused_with_a_reason(name: str) -> None:
    with pytest.raises(UnsafeModel) as refused:
        check_model(HOSTILE[name])
    assert isinstance(refused.value, Poison)
    assert (refused.value.code, bool(str(refused.value))) == ("unsafe_model", True)


def test_the_model_by_hand_is_sound_but_for_its_last_bytes() -> None:
    check_model(by_hand(b""))
    with pytest.raises(UnsafeModel, match="outside"):
        check_model(by_hand(b"\x70\x81\x80\x80\x80\x10"))


def test_the_operator_that_is_refused_is_named() -> None:
    with pytest.raises(UnsafeModel, match=r"com\.example:Custom"):
        check_model(HOSTILE["a foreign domain"])


def test_what_is_allowed_passes_with_any_data() -> None:
    numbers = [1.5, float("nan"), 0.0] * 500
    words = ["BRANCH_LEQ", "LEAF", "x" * 300, "", "BRANCH_LEQ"] * 50
    weights = helper.make_tensor("w", TensorProto.FLOAT, [1500], numbers)
    check_model(model(identity(a=numbers, b=list(range(-3, 1500)), c=words, d=2**60), initializers=(weights,)))
    for domain, operators in ALLOWED.items():
        for operator in operators:
            check_model(model(helper.make_node(operator, ["numeric"], ["value"], domain=domain)))


def test_bytes_that_are_spoilt_are_refused_or_read_and_nothing_else() -> None:
    r = random.Random(1)  # noqa: S311 - test data
    sound = model(identity(a=[1.0] * 9, c=["LEAF"] * 9), initializers=(helper.make_tensor("w", 1, [1], [1.0]),))
    outcomes = {"refused": 0, "read": 0}
    for _ in range(5_000):
        data = bytearray(sound)
        for _ in range(r.randint(1, 4)):
            data[r.randrange(len(data))] = r.randrange(256)
        try:
            check_model(bytes(data[: r.choice([len(data), r.randrange(len(data))])]))
            outcomes["read"] += 1
        except UnsafeModel:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100, outcomes
