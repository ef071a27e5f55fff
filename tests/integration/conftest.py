"""A model small enough to be checked by eye, packed as packaging and validation would have left it."""

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tidemill_contracts.artifacts import package_key, report_key
from tidemill_contracts.document import Document, content_version
from tidemill_contracts.package import Golden, GoldenPrediction, PackageManifest, Signature, Tensor
from tidemill_contracts.promotion import ValidationReport
from tidemill_serving.settings import ServingSettings
from tidemill_shared.signing import Signer
from tidemill_shared.testing.platform import Platform


def line(weight: float, columns: int) -> bytes:
    """ONNX bytes: value = weight times the sum of the columns."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["numeric", "w"], ["value"])],
        "line",
        [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.full((columns, 1), weight, np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


async def package(
    platform: Platform, weight: float, pipeline: str, features: tuple[str, ...] = ("x",)
) -> dict[str, Any]:
    """A signed and judged package, as an entry of the registry names it."""
    store, version = platform.store, content_version(pipeline, str(weight), *features)

    async def put(name: str, content: bytes | Document) -> Any:
        key = package_key(pipeline, version, name)
        return await (store.put(key, content) if isinstance(content, bytes) else store.put_document(key, content))

    answer = GoldenPrediction(features=dict.fromkeys(features, 2.0), prediction=2.0 * len(features) * weight)
    signature = Signature(
        task="regression",
        numeric=features,
        categorical=(),
        inputs=(Tensor(name="numeric", datatype="FP32", shape=(-1, len(features))),),
        outputs=(Tensor(name="value", datatype="FP32", shape=(-1, 1)),),
        target="y",
    )
    files = {
        "model.onnx": await put("model.onnx", line(weight, len(features))),
        "signature.json": await put("signature.json", signature),
        "golden.json": await put("golden.json", Golden(tolerance=1e-4, predictions=(answer,))),
    }
    any_ref = files["golden.json"]
    facts: dict[str, Any] = {"pipeline": pipeline, "version": version, "causes": ("cause",), "code_version": "test"}
    manifest = await put(
        "manifest.json",
        PackageManifest(
            task="regression",
            family="linear",
            files=files,
            model=any_ref,
            dataset=any_ref,
            dataset_version="0" * 12,
            spec=any_ref,
            opset=21,
            environment={},
            environment_lock="0" * 64,
            **facts,
        ),
    )
    signer = Signer(platform.settings(ServingSettings).keys.private_file)
    report = ValidationReport(
        package=manifest, dataset=any_ref, passed=True, promote=True, rows=9, metrics={}, checks=(), seed=0, **facts
    )
    return {
        "pipeline": pipeline,
        "version": version,
        "manifest": manifest,
        "attestation": await put("manifest.dsse.json", signer.attest(manifest.key, manifest.sha256)),
        "report": await store.put_document(report_key(pipeline, version, manifest.sha256), report),
        "reason": "a test",
        "cause": "cause",
        "signature": None,
    }


@pytest.fixture
def packed() -> Callable[..., Awaitable[dict[str, Any]]]:
    """``await packed(platform, weight, pipeline)``: what an entry of the registry says of a model that answers
    weight x, or with further ``features`` their sum."""
    return package
