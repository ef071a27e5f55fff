"""Small models with a formula that a test can compute, signed and promoted as real ones are, and processes to kill."""

import asyncio
import contextlib
import math
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, settings
from onnx import TensorProto, helper

from tidemill_contracts.artifacts import ArtifactRef, package_key, promotion_key, report_key
from tidemill_contracts.document import Document, content_version
from tidemill_contracts.events import ModelPromoted
from tidemill_contracts.package import Golden, GoldenPrediction, PackageManifest, Signature, Tensor
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import PromotedModel, Promotion, ValidationReport
from tidemill_serving.app import build
from tidemill_serving.domain.features import Matrices
from tidemill_serving.domain.model import Model, Predictions
from tidemill_serving.settings import ServingSettings
from tidemill_shared.credentials import Credentials
from tidemill_shared.seal import PromotionSeal
from tidemill_shared.service import Service
from tidemill_shared.settings import HttpSettings
from tidemill_shared.signing import Signer
from tidemill_shared.testing.platform import Platform

# A machine that is busy with other tests is slow at making examples too; no unit test asserts times.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

NUMERIC, CATEGORICAL = ("height", "weight"), ("colour",)
COLOURS = {"red": 1.0, "green": -1.0, "blue": 0.0}
CLASSES = ("no", "yes")


def odds(features: dict[str, Any], bias: float) -> float:
    """P(yes) = sigmoid(height + weight + colour + bias), missing cells counting 0."""
    z = sum(features[c] or 0.0 for c in NUMERIC) + COLOURS.get(features["colour"] or "", 0.0) + bias
    return 1 / (1 + math.exp(-z))


def classifier(bias: float) -> bytes:
    """``odds`` as an ONNX graph."""
    node = helper.make_node
    nodes = [
        node("IsNaN", ["numeric"], ["missing"]),
        node("Where", ["missing", "zero", "numeric"], ["filled"]),
        node("ReduceSum", ["filled", "columns"], ["numbers"], keepdims=1),
        node(
            "LabelEncoder",
            ["categorical"],
            ["codes"],
            domain="ai.onnx.ml",
            keys_strings=list(COLOURS),
            values_floats=list(COLOURS.values()),
            default_float=0.0,
        ),
        node("ReduceSum", ["codes", "columns"], ["colours"], keepdims=1),
        node("Sum", ["numbers", "colours", "bias"], ["z"]),
        node("Sigmoid", ["z"], ["p"]),
        node("Sub", ["one", "p"], ["q"]),
        node("Concat", ["q", "p"], ["probabilities"], axis=1),
        node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    constants = [
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("bias", TensorProto.FLOAT, [1], [bias]),
        helper.make_tensor("columns", TensorProto.INT64, [1], [1]),
    ]
    graph = helper.make_graph(
        nodes,
        "odds",
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, len(NUMERIC)]),
            helper.make_tensor_value_info("categorical", TensorProto.STRING, [None, len(CATEGORICAL)]),
        ],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
        constants,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


def signature(**changes: Any) -> Signature:
    """Of ``classifier``."""
    values: dict[str, Any] = {
        "task": "classification",
        "numeric": NUMERIC,
        "categorical": CATEGORICAL,
        "categories": {"colour": tuple(COLOURS)},
        "inputs": (
            Tensor(name="numeric", datatype="FP32", shape=(-1, 2)),
            Tensor(name="categorical", datatype="BYTES", shape=(-1, 1)),
        ),
        "outputs": (
            Tensor(name="label", datatype="INT64", shape=(-1,)),
            Tensor(name="probabilities", datatype="FP32", shape=(-1, 2)),
        ),
        "target": "sold",
        "classes": CLASSES,
        "positive": "yes",
    }
    return Signature(**(values | changes))


def golden(bias: float) -> Golden:
    """Three rows and their answers."""
    rows = [
        {"height": 1.0, "weight": 2.0, "colour": "red"},
        {"height": None, "weight": -4.0, "colour": "green"},
        {"height": 0.25, "weight": None, "colour": None},
    ]
    return Golden(
        tolerance=1e-5,
        predictions=tuple(
            GoldenPrediction(features=r, prediction=CLASSES[p >= 0.5], probabilities=(1 - p, p))
            for r in rows
            for p in [odds(r, bias)]
        ),
    )


Promote = Callable[..., Awaitable[ModelPromoted]]
Pack = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def spec() -> PipelineSpec:
    """The pipeline these tests serve."""
    return PipelineSpec(name="sales", task="classification", target="sold", primary="f1")


@pytest.fixture
def pack(platform: Platform, spec: PipelineSpec) -> Pack:
    """``await pack(bias=…)``: store, sign and judge a package; what an entry of the registry says of it."""

    async def call(
        *,
        pipeline: str = spec.name,
        bias: float = 0.0,
        files: dict[str, bytes] | None = None,
        after: Callable[[dict[str, ArtifactRef]], Awaitable[None]] | None = None,
        passed: bool = True,
        signer: Signer | None = None,
    ) -> dict[str, Any]:
        store = platform.store
        version = content_version(pipeline, str(bias))
        contents = {
            "model.onnx": classifier(bias),
            "signature.json": signature().to_json(),
            "golden.json": golden(bias).to_json(),
        } | (files or {})
        refs = {name: await store.put(package_key(pipeline, version, name), data) for name, data in contents.items()}
        elsewhere = await store.put(package_key(pipeline, version, "elsewhere"), b"{}")

        async def document(name: str, value: Document) -> ArtifactRef:
            return await store.put_document(package_key(pipeline, version, name), value)

        manifest = await document(
            "manifest.json",
            PackageManifest(
                pipeline=pipeline,
                version=version,
                task="classification",
                family="linear",
                files=refs,
                model=elsewhere,
                dataset=elsewhere,
                dataset_version="0123456789ab",
                spec=elsewhere,
                causes=("cause",),
                opset=18,
                environment={},
                environment_lock="0" * 64,
                code_version="test",
            ),
        )
        signer = signer or Signer(platform.settings(ServingSettings).keys.private_file)
        attestation = await document("manifest.dsse.json", signer.attest(manifest.key, manifest.sha256))
        report = await store.put_document(
            report_key(pipeline, version, manifest.sha256),
            ValidationReport(
                pipeline=pipeline,
                version=version,
                package=manifest,
                dataset=elsewhere,
                passed=passed,
                promote=passed,
                rows=100,
                metrics={},
                checks=(),
                causes=("cause",),
                seed=0,
                code_version="test",
            ),
        )
        if after:
            await after(refs)
        return {
            "pipeline": pipeline,
            "version": version,
            "manifest": manifest,
            "attestation": attestation,
            "report": report,
        }

    return call


@pytest.fixture
def promote(platform: Platform, spec: PipelineSpec, pack: Pack) -> Promote:
    """``await promote(sequence, bias=…)``: as ``pack``, and promote it; the event is not published."""
    champions: dict[str, str] = {}

    async def call(sequence: int, *, pipeline: str = spec.name, **facts: Any) -> ModelPromoted:
        packed = await pack(pipeline=pipeline, **facts)
        previous = champions.get(pipeline)
        champions[pipeline] = packed["version"]
        promotion = Promotion(
            **packed,
            sequence=sequence,
            previous=previous,
            reason="a test",
            cause="cause",
            promoted_at=datetime.now(UTC),
        )
        promotion = PromotionSeal.of(platform.settings(ServingSettings).keys).sealed(promotion)
        entry = await platform.store.put_document(promotion_key(pipeline, sequence), promotion)
        packed.pop("report")
        promoted = PromotedModel(**packed, sequence=sequence, kind="promotion", promotion=entry, reason="a test")
        return ModelPromoted.root(
            promoted, subject=f"{pipeline}/{promoted.version}", source="urn:test", id=f"{pipeline}-{sequence}"
        )

    return call


@pytest.fixture
def probability() -> Callable[[dict[str, Any], float], float]:
    """P(yes) of a row under a bias."""
    return odds


@pytest.fixture
def make_onnx() -> Callable[[float], bytes]:
    """The classifier's bytes."""
    return classifier


@pytest.fixture
def make_golden() -> Callable[[float], Golden]:
    """Golden predictions of the classifier."""
    return golden


@pytest.fixture
def make_signature() -> Callable[..., Signature]:
    """How the classifier is called."""
    return signature


@pytest.fixture
def external_onnx() -> bytes:
    """The classifier with a weight that lies in a file beside it."""
    model = onnx.load_model_from_string(classifier(0.0))
    for tensor in model.graph.initializer:
        if tensor.name == "bias":
            tensor.ClearField("float_data")
            tensor.raw_data = np.array([0.0], np.float32).tobytes()
            onnx.external_data_helper.set_external_data(tensor, "weights.bin")
            tensor.ClearField("raw_data")
    return bytes(model.SerializeToString())


@pytest.fixture
async def running(platform: Platform, spec: PipelineSpec, promote: Promote) -> AsyncIterator[tuple[Service, str]]:
    """Serving with a model and with API keys."""
    await platform.declare(spec)
    await promote(1)
    made = Credentials(platform.directory / "credentials")
    service = build(platform.settings(ServingSettings, http=HttpSettings(keys_file=made.api_keys)))
    async with platform.running(service):
        yield service, made.api_key("operator").read_text()


class Replicas:
    """Processes of the service that can be killed."""

    def __init__(self, platform: Platform) -> None:
        keys = platform._keys
        self._environment = platform.environment(
            KEYS__PUBLIC_FILE=str(keys.public_file),
            KEYS__PROMOTION_PUBLIC_FILE=str(keys.promotion_public_file),
            SERVING__OBSERVE_SECONDS="0.1",
        )
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, instance: str) -> None:
        self._running[instance] = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tidemill_serving",
            env=self._environment | {"TIDEMILL_INSTANCE": instance},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def kill(self, instance: str) -> None:
        process = self._running.pop(instance)
        assert process.returncode is None, f"replica {instance} had ended by itself"
        process.kill()
        await process.wait()

    async def end(self) -> None:
        for instance in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                await self.kill(instance)


@pytest.fixture
async def replicas(platform: Platform) -> AsyncIterator[Replicas]:
    """Started by name, ended with the test."""
    made = Replicas(platform)
    yield made
    await made.end()


class Gate:
    """While it is closed a model that says no keeps its answers to itself."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self.close, self.open = self._open.clear, self._open.set

    def passed(self, found: Predictions) -> Predictions:
        if "no" in found.values:
            assert self._open.wait(120)
        return found


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Before every model's answers."""
    made, predict = Gate(), Model.predict

    def held(model: Model, rows: Matrices) -> Predictions:
        return made.passed(predict(model, rows))

    monkeypatch.setattr(Model, "predict", held)
    yield made
    made.open()
