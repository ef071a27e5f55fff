"""Packages whose behaviour is chosen, made by hand: the judge does not know what trained them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from tidemill_contracts.artifacts import ArtifactRef, dataset_key, model_key, package_key, pipeline_key
from tidemill_contracts.dataset import Column, DatasetManifest, Part
from tidemill_contracts.events import ModelPackaged
from tidemill_contracts.model import ModelManifest, RowSelection
from tidemill_contracts.package import PackagedModel, PackageManifest, Parity, Signature, Tensor
from tidemill_contracts.pipeline import Feature, PipelineSpec, PromotionPolicy
from tidemill_shared.signing import Signer
from tidemill_shared.testing.platform import Platform
from tidemill_validation.job import Candidate, Job
from tidemill_validation.settings import ValidationSettings

START = datetime(2020, 1, 1, tzinfo=UTC)
CLASSES = ("no", "yes")


def logistic(*weights: float, bias: float = 0.0, scale: float = 1.0) -> bytes:
    """ONNX bytes: P(yes) = sigmoid(w x + bias), probabilities times ``scale`` (not 1: no probabilities)."""
    w = np.array(weights, np.float32).reshape(-1, 1)
    constants = {"w": w, "b": np.array([bias], np.float32), "s": np.array([scale], np.float32)}
    constants["one"] = np.array([1], np.float32)
    nodes = [
        helper.make_node("MatMul", ["numeric", "w"], ["x"]),
        helper.make_node("Add", ["x", "b"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["both"], axis=1),
        helper.make_node("Mul", ["both", "s"], ["probabilities"]),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, len(w)])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def line(weight: float) -> bytes:
    """ONNX bytes of a regression: value = weight x."""
    node = helper.make_node("MatMul", ["numeric", "w"], ["value"])
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.array([[weight]], np.float32), "w")],
    )
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    ).SerializeToString()
    return data


def unseen(n: int, *, flipped: bool = False, seed: int = 0, first: int = 0) -> pa.Table:
    """``yes`` where x (flipped: -x) plus noise is positive; ``z`` is noise."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.normal(size=n)
    hit = (-x if flipped else x) + 0.3 * rng.normal(size=n) > 0
    return pa.table(
        {
            "x": x,
            "z": z,
            "outcome": pa.array([CLASSES[int(h)] for h in hit]),
            "amount": 3 * x,
            "tidemill_time": pa.array(
                [START + timedelta(hours=first + i) for i in range(n)], pa.timestamp("us", "UTC")
            ),
            "tidemill_ordinal": np.arange(first, first + n),
        }
    )


def candidate(model: bytes, **changes: Any) -> Candidate:
    """A package's facts."""
    facts: dict[str, Any] = {
        "onnx": model,
        "numeric": ("x", "z"),
        "categorical": (),
        "classes": CLASSES,
        "positive": "yes",
        "threshold": None,
        "target": "outcome",
    }
    return Candidate(**(facts | changes))


@pytest.fixture(scope="session")
def models() -> SimpleNamespace:
    """Models whose quality on ``unseen`` rows is known, and how to make more."""
    return SimpleNamespace(
        good=logistic(4.0, 0.0),
        poor=logistic(0.4, 2.0),
        wrong=logistic(-4.0, 0.0),
        logistic=logistic,
        line=line,
        unseen=unseen,
        candidate=candidate,
    )


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """Builds a judgement: ``job(GOOD, champion=POOR)``."""

    def build(challenger: bytes, champion: bytes | None = None, rows: pa.Table | None = None, **changes: Any) -> Job:
        path = tmp_path / "test.parquet"
        pq.write_table(unseen(400) if rows is None else rows, path)
        facts: dict[str, Any] = {
            "challenger": candidate(challenger),
            "champion": candidate(champion) if champion else None,
            "task": "classification",
            "target": "outcome",
            "classes": CLASSES,
            "metric": "f1",
            "test": (path,),
            "from_ordinal": 0,
            "since": None,
            "newest_rows": 2_000,
            "min_rows": 20,
            "goals": {},
            "confidence": 0.95,
            "margin": 0.01,
            "max_latency_ms": 1_000.0,
            "max_batch_latency_ms": 5_000.0,
            "resamples": 1_000,
            "seed": 0,
        }
        return Job(**(facts | changes))

    return build


@dataclass
class Shelf:
    """Stores datasets and signed packages, as the services before would have."""

    platform: Platform
    promotion: PromotionPolicy = field(
        default_factory=lambda: PromotionPolicy(max_latency_ms=1_000, max_batch_latency_ms=5_000)
    )
    name: str = "flow"

    @property
    def spec(self) -> PipelineSpec:
        """The pipeline."""
        return PipelineSpec(
            name=self.name,
            task="classification",
            target="outcome",
            positive="yes",
            primary="f1",
            promotion=self.promotion,
        )

    async def dataset(self, rows: pa.Table, version: str = "0" * 12) -> ArtifactRef:
        """A dataset whose test split has these rows."""
        path = self.platform.directory / f"{version}.parquet"
        pq.write_table(rows, path)
        part = Part(
            split="test",
            file=await self.platform.store.put_file(dataset_key(self.name, version, "test.parquet"), path),
            rows=len(rows),
            first_ordinal=rows["tidemill_ordinal"][0].as_py(),
            last_ordinal=rows["tidemill_ordinal"][-1].as_py(),
            time_min=rows["tidemill_time"][0].as_py(),
            time_max=rows["tidemill_time"][-1].as_py(),
        )
        spec = await self._spec()
        manifest = DatasetManifest(
            pipeline=self.name,
            version=version,
            sequence=1,
            task="classification",
            columns=tuple(Column(name=n, kind="numeric", role="feature") for n in ("x", "z")),
            classes=CLASSES,
            parts=(part,),
            next_ordinal=part.last_ordinal + 1,
            rows={"test": len(rows)},
            new_rows=len(rows),
            source=spec,
            spec=spec,
            causes=("cause-0",),
            code_version="0",
        )
        return await self.platform.store.put_document(dataset_key(self.name, version, "manifest.json"), manifest)

    async def _spec(self) -> ArtifactRef:
        return await self.platform.store.put_document(pipeline_key(self.name, self.spec.version), self.spec)

    async def package(
        self, model: bytes, version: str, dataset: ArtifactRef, *, since: datetime | None = None
    ) -> ModelPackaged:
        """A signed package and the event that announces it."""
        store = self.platform.store
        spec = await self._spec()
        features = tuple(Feature(name=n, kind="numeric") for n in ("x", "z"))
        trained = ModelManifest(
            pipeline=self.name,
            version=version,
            task="classification",
            family="linear",
            parameters={},
            features=features,
            target="outcome",
            classes=CLASSES,
            positive="yes",
            files={},
            metrics={},
            dataset=dataset,
            dataset_version="0" * 12,
            selection=RowSelection(since=since),
            rows={},
            spec=spec,
            trigger="first_data",
            causes=("cause-0",),
            seed=0,
            code_version="0",
            environment={},
        )
        signature = Signature(
            task="classification",
            numeric=("x", "z"),
            categorical=(),
            inputs=(Tensor(name="numeric", datatype="FP32", shape=(-1, 2)),),
            outputs=(Tensor(name="probabilities", datatype="FP32", shape=(-1, 2)),),
            target="outcome",
            classes=CLASSES,
            positive="yes",
        )
        files = {
            "model.onnx": await store.put(package_key(self.name, version, "model.onnx"), model),
            "signature.json": await store.put_document(package_key(self.name, version, "signature.json"), signature),
        }
        manifest = PackageManifest(
            pipeline=self.name,
            version=version,
            task="classification",
            family="linear",
            files=files,
            model=await store.put_document(model_key(self.name, version, "manifest.json"), trained),
            dataset=dataset,
            dataset_version="0" * 12,
            spec=spec,
            causes=("cause-0",),
            opset=21,
            environment={},
            environment_lock="0" * 64,
            code_version="0",
        )
        ref = await store.put_document(package_key(self.name, version, "manifest.json"), manifest)
        signer = Signer(self.platform.settings(ValidationSettings).keys.private_file)
        attestation = signer.attest(ref.key, ref.sha256)
        parity = Parity(rows=1_000, label_agreement=1, metric="f1", trained=1, packaged=1, p999=0, maximum=0)
        data = PackagedModel(
            pipeline=self.name,
            version=version,
            manifest=ref,
            attestation=await store.put_document(package_key(self.name, version, "manifest.dsse.json"), attestation),
            dataset_version="0" * 12,
            size=len(model),
            parity=parity,
            seconds=1.0,
        )
        return ModelPackaged.root(data, subject=f"{self.name}/{version}", source="urn:tidemill:packaging")


@pytest.fixture
def shelf(platform: Platform) -> Shelf:
    """The store as the services before leave it."""
    return Shelf(platform)
