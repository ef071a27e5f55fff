"""The serving process as it runs in production, and packages promoted to it: signed, judged, sealed like real ones.

Imported by ``serving_swap.py``, ``serving_rollback.py``, ``serving_kills.py`` and ``serving_pipelines.py``.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from serving_stream import CATEGORICAL, LEVELS, NUMERIC, Bench, table

from tidemill_contracts.artifacts import ArtifactRef, package_key, promotion_key, report_key
from tidemill_contracts.document import Document, content_version
from tidemill_contracts.events import ModelPromoted
from tidemill_contracts.package import Golden, GoldenPrediction, PackageManifest, Signature, Tensor
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import PromotedModel, Promotion, ValidationReport
from tidemill_serving.domain.features import matrices
from tidemill_serving.domain.model import Model
from tidemill_serving.settings import ServingSettings
from tidemill_serving.shelf import weight
from tidemill_shared.seal import PromotionSeal
from tidemill_shared.signing import Signer, generate_keys
from tidemill_shared.store import reference
from tidemill_shared.testing.platform import Platform
from tidemill_shared.testing.servers import local_servers


def spec(pipeline: str) -> PipelineSpec:
    """A pipeline that the benchmark's model serves."""
    return PipelineSpec(name=pipeline, task="classification", target="y", primary="f1")


@contextlib.asynccontextmanager
async def platform() -> AsyncIterator[Platform]:
    """Servers and keys for one benchmark."""
    with tempfile.TemporaryDirectory() as name, local_servers(Path(name)) as servers:
        keys = Path(name) / "private.pem", Path(name) / "public.pem"
        for path, data in zip(keys, generate_keys(), strict=True):
            path.write_bytes(data)
        async with Platform.open(servers, keys, Path(name)) as opened:
            yield opened


@contextlib.asynccontextmanager
async def serving(opened: Platform, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """``python -m tidemill_serving`` until the block ends."""
    settings = opened.settings(ServingSettings)
    env = os.environ | {
        "TIDEMILL_NAMESPACE": opened.namespace,
        "TIDEMILL_REDIS__URL": settings.redis.url,
        "TIDEMILL_REDIS__PASSWORD": settings.redis.secret() or "",
        "TIDEMILL_STORE__ENDPOINT": settings.store.endpoint,
        "TIDEMILL_STORE__BUCKET": settings.store.bucket,
        "TIDEMILL_STORE__ACCESS_KEY": settings.store.access_key,
        "TIDEMILL_STORE__SECRET_KEY": settings.store.secret(),
        "TIDEMILL_KEYS__PUBLIC_FILE": str(settings.keys.public_file),
        "TIDEMILL_KEYS__PROMOTION_PUBLIC_FILE": str(settings.keys.promotion_public_file),
        "TIDEMILL_LOG_LEVEL": os.environ.get("TIDEMILL_LOG_LEVEL", "ERROR"),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tidemill_serving", env=env | variables)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):  # killed by whoever uses it
            process.terminate()
        await process.wait()


class Packed(NamedTuple):
    """A package whose promotion is sealed, and not yet in the registry."""

    event: ModelPromoted
    key: str
    entry: bytes


async def promote(opened: Platform, bench: Bench, pipeline: str, sequence: int, **facts: Any) -> ModelPromoted:
    """As ``packed``, and enter it in the registry; the event is not published."""
    return await enter(opened, await packed(opened, bench, pipeline, sequence, **facts))


async def enter(opened: Platform, package: Packed) -> ModelPromoted:
    """From now on this is the champion; the event is not published."""
    await opened.store.put(package.key, package.entry)
    return package.event


async def packed(
    opened: Platform,
    bench: Bench,
    pipeline: str,
    sequence: int,
    *,
    threshold: float = 0.5,
    previous: str | None = None,
) -> Packed:
    """Store, sign and judge the model under a threshold of its own."""
    version = content_version(pipeline, str(threshold))
    store, settings = opened.store, opened.settings(ServingSettings)

    async def put(name: str, content: bytes | Document) -> ArtifactRef:
        key = package_key(pipeline, version, name)
        return await (store.put(key, content) if isinstance(content, bytes) else store.put_document(key, content))

    files = {
        "model.onnx": await put("model.onnx", bench.onnx),
        "signature.json": await put("signature.json", _signature(threshold)),
        "golden.json": await put("golden.json", _golden(bench, threshold)),
    }
    any_ref = files["golden.json"]
    manifest = PackageManifest(
        pipeline=pipeline,
        version=version,
        task="classification",
        family="hist_gradient_boosting",
        files=files,
        model=any_ref,
        dataset=any_ref,
        dataset_version="0123456789ab",
        spec=any_ref,
        causes=("benchmark",),
        opset=18,
        environment={},
        environment_lock="0" * 64,
        code_version="benchmark",
    )
    package = await put("manifest.json", manifest)
    signed = Signer(settings.keys.private_file).attest(package.key, package.sha256)
    attestation = await put("manifest.dsse.json", signed)
    report = ValidationReport(
        pipeline=pipeline,
        version=version,
        package=package,
        dataset=any_ref,
        passed=True,
        promote=True,
        rows=1,
        metrics={},
        checks=(),
        causes=("benchmark",),
        seed=0,
        code_version="benchmark",
    )
    judged = await store.put_document(report_key(pipeline, version, package.sha256), report)
    shared: dict[str, Any] = {
        "pipeline": pipeline,
        "version": version,
        "sequence": sequence,
        "manifest": package,
        "attestation": attestation,
        "reason": "a benchmark",
    }
    now = datetime.now(UTC)
    promotion = Promotion(report=judged, cause="benchmark", promoted_at=now, previous=previous, **shared)
    key, entry = promotion_key(pipeline, sequence), PromotionSeal.of(settings.keys).sealed(promotion).to_json()
    promoted = PromotedModel(kind="promotion", promotion=reference(key, entry), **shared)
    return Packed(ModelPromoted.root(promoted, subject=f"{pipeline}/{version}", source="urn:benchmark"), key, entry)


def model_weight(bench: Bench) -> int:
    """Bytes the service reckons for one loaded model."""
    return weight(bench.loaded)


def _signature(threshold: float) -> Signature:
    return Signature(
        task="classification",
        numeric=NUMERIC,
        categorical=CATEGORICAL,
        categories=dict.fromkeys(CATEGORICAL, LEVELS),
        inputs=(
            Tensor(name="numeric", datatype="FP32", shape=(-1, len(NUMERIC))),
            Tensor(name="categorical", datatype="BYTES", shape=(-1, len(CATEGORICAL))),
        ),
        outputs=(
            Tensor(name="label", datatype="INT64", shape=(-1,)),
            Tensor(name="probabilities", datatype="FP32", shape=(-1, 2)),
        ),
        target="y",
        classes=(0, 1),
        positive=1,
        threshold=threshold,
    )


def _golden(bench: Bench, threshold: float) -> Golden:
    layout = bench.loaded.model.layout
    model = Model(bench.onnx, layout, task="classification", classes=(0, 1), positive=1, threshold=threshold)
    rows: list[dict[str, Any]] = [
        {name: value if isinstance(value, str) else float(value) for name, value in row.items()}
        for row in table(5, seed=3).to_dict("records")
    ]
    answers = model.predict(matrices(rows, layout)[0])
    assert answers.probabilities is not None
    return Golden(
        tolerance=1e-5,
        predictions=tuple(
            GoldenPrediction(features=row, prediction=value, probabilities=tuple(odds))
            for row, value, odds in zip(rows, answers.values, answers.probabilities.tolist(), strict=True)
        ),
    )
