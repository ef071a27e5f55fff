"""The service on real Redis and S3: model.trained in, model.packaged or packaging.failed out."""

import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tidemill_contracts.artifacts import package_key
from tidemill_contracts.events import EventDeadLettered, ModelPackaged, ModelTrained, PackagingFailed
from tidemill_contracts.package import Attestation, Golden, PackageManifest, Parity, Reference, Signature
from tidemill_packaging.app import build
from tidemill_packaging.settings import PackagingSettings
from tidemill_shared.errors import Poison
from tidemill_shared.signing import Verifier
from tidemill_shared.testing.platform import Platform

Case = Callable[..., Any]
Store = Callable[..., Awaitable[ModelTrained]]


async def test_a_trained_model_becomes_a_signed_package(platform: Platform, case: Case, store_model: Store) -> None:
    event = await store_model(case("boosting", "binary"))
    await platform.publish(event)
    settings = platform.settings(PackagingSettings)
    async with platform.running(build(settings)):
        packaged = await platform.wait_for(ModelPackaged, timeout=60)
    assert packaged.causationid == event.id
    assert packaged.subject == event.subject
    store, data = platform.store, packaged.data
    verifier = Verifier(settings.keys.public_file)
    attestation = await store.document(data.attestation, Attestation)
    verifier.verify(attestation, data.manifest.key, data.manifest.sha256)
    with pytest.raises(Poison):
        verifier.verify(attestation, data.manifest.key, "0" * 64)
    manifest = await store.document(data.manifest, PackageManifest)
    assert set(manifest.files) == {
        "model.onnx", "signature.json", "golden.json", "reference.json", "parity.json", "replay.json", "model-card.md",
    }  # fmt: skip
    for ref in manifest.files.values():
        await store.get(ref)
    assert manifest.model == event.data.manifest
    assert "scikit-learn" in manifest.environment
    signature = await store.document(manifest.files["signature.json"], Signature)
    assert (signature.numeric, signature.categorical) == (("age", "income"), ("town",))
    assert [t.datatype for t in signature.inputs] == ["FP32", "BYTES"]
    assert [t.name for t in signature.outputs] == ["label", "probabilities"]
    assert len((await store.document(manifest.files["golden.json"], Golden)).predictions) == 32
    assert await store.document(manifest.files["parity.json"], Parity) == data.parity
    reference = await store.document(manifest.files["reference.json"], Reference)
    assert (reference.score, reference.error_rows) == (0.81, 200)
    assert reference.error == pytest.approx(0.1)
    age = next(c for c in reference.columns if c.name == "age")
    assert (age.importance, age.importance_error) == (0.25, 0.05)
    assert b"Predicts `outcome`" in await store.get(manifest.files["model-card.md"])


async def test_the_same_version_again_is_announced_and_not_made_anew(
    platform: Platform, case: Case, store_model: Store
) -> None:
    built = case("linear", "binary")
    first, again = await store_model(built, cause="one"), await store_model(built, cause="two")
    await platform.publish(first.model_copy(update={"data": again.data}), again)
    async with platform.running(build(platform.settings(PackagingSettings))):
        one = await platform.wait_for(ModelPackaged, lambda e: e.causationid == "one", timeout=60)
        two = await platform.wait_for(ModelPackaged, lambda e: e.causationid == "two", timeout=60)
    assert one.data.manifest == two.data.manifest
    assert one.data.attestation == two.data.attestation
    assert one.id != two.id
    await platform.store.get(one.data.manifest)


async def test_a_damaged_package_is_made_anew_with_the_same_bytes(
    platform: Platform, case: Case, store_model: Store
) -> None:
    event = await store_model(case("linear", "binary"))
    await platform.publish(event)
    async with platform.running(build(platform.settings(PackagingSettings))):
        before = await platform.wait_for(ModelPackaged, timeout=60)
        key = package_key(before.data.pipeline, before.data.version, "parity.json")
        await platform.store.put(key, b"{}")
        await platform.publish(event.model_copy(update={"time": before.time}))
        await platform.wait_for(ModelPackaged, lambda e: e.time > before.time, timeout=60)
    for ref in (await platform.store.document(before.data.manifest, PackageManifest)).files.values():
        await platform.store.get(ref)


async def test_a_model_that_cannot_be_packaged_is_an_event_with_the_reason(
    platform: Platform, case: Case, store_model: Store
) -> None:
    built = case("linear", "binary")
    built.job.model.write_bytes(b"\x80\x04 no model")
    event = await store_model(built)
    await platform.publish(event)
    async with platform.running(build(platform.settings(PackagingSettings))):
        failed = await platform.wait_for(PackagingFailed, timeout=60)
    assert (failed.data.step, failed.causationid) == ("load", event.id)
    assert failed.data.reasons[0].message
    assert not await platform.events(ModelPackaged)
    assert not await platform.store.exists(package_key(event.pipeline, event.data.version, "manifest.json"))


async def test_a_model_with_other_bytes_than_stated_is_dead_lettered(
    platform: Platform, case: Case, store_model: Store
) -> None:
    event = await store_model(case("linear", "binary"))
    manifest = event.data.manifest
    await platform.store.put(manifest.key.replace("manifest.json", "model.skops"), b"something else")
    await platform.publish(event)
    async with platform.running(build(platform.settings(PackagingSettings))):
        letter = await platform.wait_for(EventDeadLettered, timeout=60)
    assert (letter.data.reason, letter.data.event_id) == ("checksum", event.id)


def test_the_parent_process_does_not_import_the_science_libraries() -> None:
    code = (
        "import sys, tidemill_packaging.app\n"
        "print(sorted({'numpy', 'sklearn', 'pandas', 'onnx', 'onnxruntime', 'pyarrow', 'skops'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
