"""Tensors of the Open Inference Protocol into rows and back."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_serving.domain import protocol
from tidemill_serving.domain.features import Layout, matrices
from tidemill_serving.domain.model import Model
from tidemill_serving.domain.protocol import BadRequest

LAYOUT = Layout(("height", "weight"), ("colour",), None)


def tensor(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


MATRICES = [tensor("numeric", "FP32", [2, 2], [1, None, 3, 4]), tensor("categorical", "BYTES", [2, 1], ["red", None])]
ROWS = [{"height": 1, "weight": None, "colour": "red"}, {"height": 3, "weight": 4, "colour": None}]


@pytest.mark.parametrize(
    "tensors",
    [
        MATRICES,
        [tensor("numeric", "FP64", [2, 2], [[1, None], [3, 4]]), MATRICES[1]],
        [
            tensor("weight", "FP32", [2], [None, 4]),
            tensor("height", "INT8", [2, 1], [[1], [3]]),
            tensor("colour", "BYTES", [2], ["red", None]),
        ],
    ],
)
def test_matrices_nested_data_and_columns_are_the_same_rows(tensors: list[dict[str, Any]]) -> None:
    assert protocol.rows_of({"inputs": tensors}, LAYOUT, 10) == ROWS


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (None, "at least one tensor"),
        ({"inputs": []}, "at least one tensor"),
        ({"inputs": [1]}, r"inputs\[0\]: an object"),
        ({"inputs": [tensor("depth", "FP32", [1], [1])]}, "no input 'depth'"),
        ({"inputs": [tensor("numeric", "FP32", [4], [1, 2, 3, 4])]}, r"shape must be \[rows, 2\]"),
        ({"inputs": [tensor("height", "FP32", [1, 2], [1, 2])]}, "a column has shape"),
        ({"inputs": [tensor("height", "FP31", [1], [1])]}, "unknown datatype"),
        ({"inputs": [tensor("height", "FP32", [2], [1])]}, "1 values for shape"),
        ({"inputs": [tensor("height", "FP32", [2**40, 2**40], [1])]}, "1 values for shape"),
        ({"inputs": [tensor("height", "FP32", [-1], [1])]}, "shape must be"),
        ({"inputs": [tensor("height", "FP32", [1], ["1"])]}, "must hold FP32"),
        ({"inputs": [tensor("height", "FP32", [1], [True])]}, "must hold FP32"),
        ({"inputs": [tensor("height", "INT8", [1], [128])]}, "must hold INT8"),
        ({"inputs": [tensor("height", "UINT8", [1], [-1])]}, "must hold UINT8"),
        ({"inputs": [tensor("height", "INT32", [1], [1.0])]}, "must hold INT32"),
        ({"inputs": [tensor("height", "BOOL", [1], [1])]}, "must hold BOOL"),
        ({"inputs": [tensor("colour", "BYTES", [1], [[["x"]]])]}, "must hold BYTES"),
        ({"inputs": [MATRICES[0], tensor("height", "FP32", [2], [1, 2])]}, "given twice"),
        ({"inputs": [MATRICES[0], tensor("colour", "BYTES", [1], ["x"])]}, "different numbers of rows"),
        ({"inputs": [tensor("colour", "BYTES", [0], [])]}, "0 rows"),
        ({"inputs": [tensor("colour", "BYTES", [11], ["x"] * 11)]}, "11 rows"),
    ],
)
def test_a_bad_request_says_what_and_where(request_: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        protocol.rows_of(request_, LAYOUT, 10)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["numeric", "FP32", "x"]),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from(["name", "shape", "data", "datatype"]), v),
)


@given(
    st.fixed_dictionaries(
        {
            "inputs": st.lists(
                st.fixed_dictionaries(
                    {
                        "name": st.sampled_from(["numeric", "colour", "height"]) | json_values,
                        "datatype": st.sampled_from(["FP32", "BYTES", "BOOL", "UINT64"]) | json_values,
                        "shape": st.lists(st.integers(0, 3), max_size=3) | json_values,
                        "data": st.lists(json_values, max_size=6) | json_values,
                    }
                ),
                max_size=3,
            )
        }
    )
    | json_values
)
def test_any_json_is_rows_or_a_bad_request(request_: Any) -> None:
    try:
        protocol.inputs(protocol.rows_of(request_, LAYOUT, 10), LAYOUT)
    except BadRequest:
        return


def test_a_refused_row_is_named() -> None:
    with pytest.raises(BadRequest, match="row 1: feature 'height'"):
        protocol.inputs([ROWS[0], ROWS[1] | {"height": "x"}], LAYOUT)


def test_outputs_and_metadata_describe_each_other(make_onnx: Callable[[float], bytes]) -> None:
    for classes, datatype in (((0, 1), "INT64"), ((False, True), "BOOL"), (("a", "b"), "BYTES"), ((1, "b"), "BYTES")):
        model = Model(make_onnx(0.0), LAYOUT, task="classification", classes=classes)
        found = protocol.outputs(model, model.predict(matrices(ROWS, LAYOUT)[0]))
        described = protocol.metadata("sales", model, ["0123"])
        assert found[0]["datatype"] == datatype
        assert [(o["name"], o["datatype"], o["shape"][1:]) for o in found] == [
            (o["name"], o["datatype"], o["shape"][1:]) for o in described["outputs"]
        ]
        assert [len(o["data"]) for o in found] == [2, 4]


def test_a_request_may_choose_its_outputs() -> None:
    found = [{"name": "prediction"}, {"name": "probabilities"}]
    assert protocol.chosen(found, {}) == found
    assert protocol.chosen(found, {"outputs": [{"name": "probabilities"}]}) == found[1:]
    for asked in ([{"name": "label"}], [1], "prediction"):
        with pytest.raises(BadRequest, match="outputs"):
            protocol.chosen(found, {"outputs": asked})
