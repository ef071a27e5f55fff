"""A loaded model: its answers, its proof, what it refuses to load."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tidemill_contracts.package import Golden
from tidemill_serving.decode import Request
from tidemill_serving.domain.features import Layout, Matrices, Refusal, matrices
from tidemill_serving.domain.golden import prove
from tidemill_serving.domain.model import Model
from tidemill_serving.loading import Loaded
from tidemill_serving.rows import answers

LAYOUT = Layout(("height", "weight"), ("colour",), None)
ROWS = [{"height": 0.5, "weight": None, "colour": "red"}, {"height": -3, "weight": 1.0, "colour": None}]


def build(onnx: bytes, **changes: Any) -> Model:
    return Model(onnx, LAYOUT, **({"task": "classification", "classes": ("no", "yes"), "positive": "yes"} | changes))


def regressor(operation: str = "Identity") -> bytes:
    """height + weight, through one more operation."""
    nodes = [
        helper.make_node("ReduceSum", ["numeric", "columns"], ["sum"], keepdims=0),
        helper.make_node(operation, ["sum"], ["value"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None])],
        [helper.make_tensor("columns", TensorProto.INT64, [1], [1])],
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    )


def test_answers_are_the_formula(make_onnx: Callable[..., bytes], probability: Callable[..., float]) -> None:
    answers = build(make_onnx(0.3)).predict(matrices(ROWS, LAYOUT)[0])
    expected = [probability(row, 0.3) for row in ROWS]
    assert answers.probabilities is not None
    np.testing.assert_allclose(answers.probabilities[:, 1], expected, rtol=1e-5)
    assert answers.values == [("no", "yes")[p >= 0.5] for p in expected]


@pytest.mark.parametrize(("threshold", "value"), [(None, "yes"), (0.8, "no"), (0.7, "yes")])
def test_a_binary_threshold_decides(make_onnx: Callable[..., bytes], threshold: float | None, value: str) -> None:
    rows, _ = matrices([{"height": 1.0, "weight": 0.0, "colour": None}], LAYOUT)  # P(yes) = 0.731
    assert build(make_onnx(0.0), threshold=threshold).predict(rows).values == [value]
    assert build(make_onnx(0.0), threshold=threshold and 1 - threshold, positive="no").predict(rows).values == [value]


def test_no_rows_no_answers(make_onnx: Callable[..., bytes]) -> None:
    answers = build(make_onnx(0.0)).predict(matrices([], LAYOUT)[0])
    assert answers.values == []
    assert answers.probabilities is not None
    assert answers.probabilities.shape == (0, 2)


def test_what_is_not_finite_is_no_answer() -> None:
    model = build(regressor("Log"), task="regression", classes=(), positive=None)
    rows = Matrices(np.array([[1, 1], [-1, -1], [0, 0]], np.float32), np.full((3, 1), "", object))
    assert model.predict(rows).values == [pytest.approx(math.log(2)), None, None]


def prove_classifier(model: Model, golden: Golden, **changes: Any) -> None:
    expected = [(g.prediction, g.probabilities) for g in golden.predictions]
    prove(model, [g.features for g in golden.predictions], changes.get("expected", expected), golden.tolerance)


def test_the_proof_holds_for_its_own_model_only(
    make_onnx: Callable[..., bytes], make_golden: Callable[..., Golden]
) -> None:
    prove_classifier(build(make_onnx(0.3)), make_golden(0.3))
    with pytest.raises(ValueError, match="golden row 0: off by"):
        prove_classifier(build(make_onnx(0.31)), make_golden(0.3))
    with pytest.raises(ValueError, match="instead of"):
        prove_classifier(build(make_onnx(0.3), classes=("yes", "no")), make_golden(0.3))
    with pytest.raises(ValueError, match="for 2 classes"):
        prove_classifier(build(make_onnx(0.3)), make_golden(0.3), expected=[("yes", (1.0,))])


def test_a_golden_answer_on_the_edge_may_fall_either_way(make_onnx: Callable[..., bytes]) -> None:
    row = {"height": 0.0, "weight": 0.0, "colour": None}
    prove(build(make_onnx(0.0)), [row], [("yes", (0.5, 0.5))], 1e-5)
    prove(build(make_onnx(0.0)), [row], [("no", (0.5, 0.5))], 1e-5)
    with pytest.raises(ValueError, match="instead of"):
        prove(build(make_onnx(0.0), threshold=0.4), [row], [("no", (0.5, 0.5))], 1e-5)


def test_a_model_that_answers_nan_is_not_proven() -> None:
    rows = [{"height": -1.0, "weight": 0.0, "colour": None}]
    model = build(regressor("Log"), task="regression", classes=(), positive=None)
    with pytest.raises(ValueError, match="golden row 0"):
        prove(model, rows, [(1.0, ())], 1e-5)
    sums = build(regressor(), task="regression", classes=(), positive=None)
    prove(sums, rows, [(-1.0, ())], 1e-5)
    with pytest.raises(ValueError, match="golden row 0"):
        prove(sums, rows, [(-1.1, ())], 1e-5)


def test_no_golden_rows_prove_nothing(make_onnx: Callable[..., bytes]) -> None:
    with pytest.raises(ValueError, match="no golden row"):
        prove(build(make_onnx(0.0)), [], [], 1e-5)


def test_files_beside_the_bytes_are_not_read(
    external_onnx: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.bin").write_bytes(np.array([9.0], np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=r"weights\.bin|external"):
        build(external_onnx)


class Fragile(Model):
    """Fails on any batch that holds a red row, as a graph with a bad row in it does."""

    def predict(self, rows: Matrices) -> Any:
        if "red" in rows.categorical:
            raise RuntimeError("red")
        return super().predict(rows)


def test_a_row_that_breaks_the_model_is_refused_alone(make_onnx: Callable[..., bytes]) -> None:
    model = Fragile(make_onnx(0.0), LAYOUT, task="classification", classes=("no", "yes"))
    colours = ["green", "red", "blue", "red"]
    rows: list[Any] = [{"height": 1, "weight": 1, "colour": c} for c in colours]
    requests = [Request(f"r{i}", "sales", "2026-03-01T12:00:00Z", None, None, r) for i, r in enumerate([*rows, None])]
    loaded = Loaded(model, "0" * 12, "1" * 12, 1, None)  # type: ignore[arg-type]
    found = answers(requests, loaded)
    assert [f.error if isinstance(f, Refusal) else "answered" for f in found] == [
        "answered",
        "model_failed",
        "answered",
        "model_failed",
        "wrong_type",
    ]
    assert b'"prediction_id":"r2"' in found[2]  # type: ignore[operator]
