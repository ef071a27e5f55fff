"""Tensors of the Open Inference Protocol into rows and back."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_serving.domain import protocol
from tidemill_serving.domain.cells import Part, alone, together
from tidemill_serving.domain.features import Layout, Matrices, matrices
from tidemill_serving.domain.model import Model
from tidemill_serving.domain.tensor import BadRequest
from tidemill_serving.reply import Reply, shares

LAYOUT = Layout(("height", "weight"), ("colour",), None)
KNOWN = Layout(LAYOUT.numeric, LAYOUT.categorical, {"colour": frozenset({"red"})})


def tensor(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


RED = tensor("colour", "BYTES", [1], ["red"])
MATRICES = [tensor("numeric", "FP32", [2, 2], [1, None, 3, 4]), tensor("categorical", "BYTES", [2, 1], ["red", None])]
ROWS = [{"height": 1, "weight": None, "colour": "red"}, {"height": 3, "weight": 4, "colour": None}]


def read(request: Any, layout: Layout, max_rows: int) -> Matrices:
    """What the model would be given."""
    return alone(protocol.read(request, layout, max_rows), layout)


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
@pytest.mark.parametrize("layout", [LAYOUT, KNOWN])
def test_matrices_nested_data_and_columns_are_the_same_rows(tensors: list[dict[str, Any]], layout: Layout) -> None:
    expected = matrices(ROWS, layout)[0]
    found = read({"inputs": tensors}, layout, 10)
    np.testing.assert_array_equal(found.numeric, expected.numeric)
    assert found.numeric.flags.c_contiguous
    assert found.categorical.tolist() == expected.categorical.tolist()


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
        ({"inputs": [tensor("height", "FP16", [1], [65505])]}, "must hold FP16"),
        ({"inputs": MATRICES, "id": 7}, "id: a string"),
        ({"inputs": MATRICES, "parameters": []}, "request.parameters: an object"),
        ({"inputs": [MATRICES[0] | {"parameters": {"a": {}}}]}, r"inputs\[0\] 'numeric'.parameters"),
        ({"inputs": [tensor("colour", "BYTES", [1], [[["x"]]])]}, "must hold BYTES"),
        ({"inputs": [MATRICES[0], tensor("height", "FP32", [2], [1, 2])]}, "given twice"),
        ({"inputs": [MATRICES[0], tensor("colour", "BYTES", [1], ["x"])]}, "different numbers of rows"),
        ({"inputs": [tensor("colour", "BYTES", [0], [])]}, "0 rows"),
        ({"inputs": [tensor("colour", "BYTES", [11], ["x"] * 11)]}, "11 rows"),
    ],
)
def test_a_bad_request_says_what_and_where(request_: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read(request_, LAYOUT, 10)


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
        read(request_, LAYOUT, 10)
    except BadRequest:
        return


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            [tensor("numeric", "BYTES", [2, 2], ["1", "2", "3", "4"]), MATRICES[1]],
            "row 0: feature 'height' must be",
        ),
        ([tensor("numeric", "FP64", [2, 2], [1, 2, 1e39, 4]), MATRICES[1]], "row 1: feature 'height' must be a finite"),
        ([tensor("numeric", "INT64", [2, 2], [1, 2, 3, 4]), tensor("categorical", "INT8", [2], [1, 2])], "categorical"),
        ([MATRICES[0], tensor("colour", "INT8", [2], [1, 2])], "row 0: feature 'colour' must be a string"),
        ([MATRICES[0], tensor("colour", "BYTES", [2], ["red", "mauve"])], "row 1: feature 'colour': the model was tra"),
        ([MATRICES[0]], "row 0: feature 'colour' is missing"),
    ],
)
def test_a_refused_row_is_named(tensors: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read({"inputs": tensors}, KNOWN, 10)


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("BOOL", [True, None]),
        ("INT8", [-128, 127]),
        ("INT16", [-(2**15), 2**15 - 1]),
        ("INT32", [-(2**31), 2**31 - 1]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT8", [0, 255]),
        ("UINT16", [0, 2**16 - 1]),
        ("UINT32", [0, 2**32 - 1]),
        ("UINT64", [0, 2**64 - 1]),
        ("FP16", [-65504.0, 1]),
        ("FP32", [1.5, None]),
        ("FP64", [1e-300, 2]),
    ],
)
def test_every_datatype_of_numbers_is_read_to_its_limits(datatype: str, data: list[Any]) -> None:
    columns = [tensor("height", datatype, [2], data), tensor("weight", "FP32", [2], [0, 0]), MATRICES[1]]
    expected = np.array([np.nan if v is None else float(v) for v in data], np.float64).astype(np.float32)
    np.testing.assert_array_equal(read({"inputs": columns}, KNOWN, 10).numeric[:, 0], expected)


def test_answers_and_metadata_describe_each_other(make_onnx: Callable[[float], bytes]) -> None:
    for classes, datatype in (((0, 1), "INT64"), ((False, True), "BOOL"), (("a", 'b"'), "BYTES"), ((1, "b"), "BYTES")):
        model = Model(make_onnx(0.0), LAYOUT, task="classification", classes=classes)
        answers = model.predict(matrices(ROWS, LAYOUT)[0])
        described = protocol.metadata("sales", model, ["0123"])
        body = Reply(model, "0123", "4567").body(
            "sales", shares(answers, [2], 0.0)[0], protocol.wanted({}, model), 'mi"ne'
        )
        found = json.loads(body)
        assert (found["model_name"], found["model_version"], found["id"]) == ("sales", "0123", 'mi"ne')
        assert found["parameters"] == {"model_version": "0123", "dataset_version": "4567"}
        for tensor_, output in zip(found["outputs"], described["outputs"], strict=True):
            assert (tensor_["name"], tensor_["datatype"]) == (output["name"], output["datatype"])
            assert tensor_["shape"] == [2, *output["shape"][1:]]
        prediction, odds = found["outputs"]
        assert prediction["datatype"] == datatype
        assert prediction["data"] == [str(v) if datatype == "BYTES" else v for v in answers.values]
        assert answers.probabilities is not None
        np.testing.assert_array_equal(np.array(odds["data"], np.float32).reshape(2, 2), answers.probabilities)


def test_a_request_may_choose_its_outputs(make_onnx: Callable[[float], bytes]) -> None:
    model = Model(make_onnx(0.0), LAYOUT, task="classification", classes=("a", "b"))
    answers = shares(model.predict(matrices(ROWS, LAYOUT)[0]), [2], 0.0)[0]
    for names in (["probabilities"], ["probabilities", "prediction"], ["prediction"]):
        wanted = protocol.wanted({"outputs": [{"name": name} for name in names]}, model)
        found = json.loads(Reply(model, "0123", "4567").body("sales", answers, wanted, None))
        assert [o["name"] for o in found["outputs"]] == names
        assert "id" not in found
    for asked in ([{"name": "label"}], [1], "prediction", 0, {}, [{"name": "prediction", "parameters": 1}]):
        with pytest.raises(BadRequest, match="outputs"):
            protocol.wanted({"outputs": asked}, model)


def test_requests_of_any_form_share_a_call_in_their_order() -> None:
    forms = [
        [tensor("numeric", "FP32", [1, 2], [i, None]), tensor("categorical", "BYTES", [1, 1], ["red"])]
        if i % 3
        else [tensor("height", "INT32", [1], [i]), tensor("weight", "FP32", [1], [None]), RED]
        for i in range(7)
    ]
    parts: list[Part] = [protocol.read({"inputs": form}, KNOWN, 10) for form in forms]
    parts.insert(3, matrices([{"height": 9, "weight": None, "colour": None}], KNOWN)[0])
    joined = together(parts, KNOWN)
    assert joined is not None
    assert joined.numeric[:, 0].tolist() == [0, 1, 2, 9, 3, 4, 5, 6]
    assert joined.categorical[:, 0].tolist() == ["red"] * 3 + [""] + ["red"] * 4
    mauve = [forms[1][0], tensor("categorical", "BYTES", [1, 1], ["mauve"])]
    assert together([*parts, protocol.read({"inputs": mauve}, KNOWN, 10)], KNOWN) is None
