"""The service on real Redis and S3: packages in, verdicts and promotions out."""

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest

from tidemill_contracts.artifacts import model_key, package_key, promotion_key, promotions_prefix
from tidemill_contracts.document import Document
from tidemill_contracts.events import (
    EventDeadLettered,
    ModelApproved,
    ModelPackaged,
    ModelPromoted,
    ModelRejected,
    ModelValidated,
    RollbackRequested,
)
from tidemill_contracts.pipeline import PromotionPolicy
from tidemill_contracts.promotion import ApprovedModel, Promotion, RequestedRollback, ValidationReport
from tidemill_shared.errors import Retryable
from tidemill_shared.seal import PromotionSeal
from tidemill_shared.signing import Signer, generate_keys
from tidemill_shared.testing.platform import Platform, after
from tidemill_validation.app import build
from tidemill_validation.promoting import Choice, Registry
from tidemill_validation.settings import ValidationSettings

A, B, C = "a" * 12, "b" * 12, "c" * 12


def service(platform: Platform) -> Any:
    return build(platform.settings(ValidationSettings))


def letter_of(event: Any) -> Any:
    return lambda found: found.data.event_id == event.id


def rollback(shelf: Any, version: str | None = None) -> RollbackRequested:
    data = RequestedRollback(version=version, by="ada", reason="it was better")
    return RollbackRequested.root(data, subject=shelf.name, source="urn:test")


async def promoted(platform: Platform, *events: Any) -> list[ModelPromoted]:
    """Publish one after the other, each once the one before has led to a promotion."""
    found = []
    for event in events:
        await platform.publish(event)
        found.append(await platform.wait_for(ModelPromoted, after(event), timeout=40))
    return found


async def registry(platform: Platform, shelf: Any) -> list[Promotion]:
    keys = await platform.store.list(promotions_prefix(shelf.name))
    found = [await platform.store.read_document(key, Promotion) for key in keys]
    return [p for p in found if p is not None]


async def test_the_first_package_is_promoted_and_a_worse_one_rejected(
    platform: Platform, shelf: Any, models: Any
) -> None:
    dataset = await shelf.dataset(models.unseen(300))
    first = await shelf.package(models.good, A, dataset)
    worse = await shelf.package(models.poor, B, dataset)
    async with platform.running(service(platform)):
        (promotion,) = await promoted(platform, first)
        await platform.publish(worse)
        rejected = await platform.wait_for(ModelRejected, after(worse), timeout=40)
    validated = (await platform.events(ModelValidated))[0]
    assert validated.data.metrics["f1"] > 0.8
    assert (promotion.data.version, promotion.data.sequence, promotion.data.kind) == (A, 1, "promotion")
    entry = await platform.store.document(promotion.data.promotion, Promotion)
    assert (entry.version, entry.cause, entry.manifest) == (A, first.id, first.data.manifest)
    report = await platform.store.document(rejected.data.report, ValidationReport)
    assert report.comparison is not None
    assert (report.comparison.champion, report.comparison.rows, report.promote) == (A, 300, False)
    assert [r.code for r in rejected.data.reasons] == ["worse_than_champion", "worse_than_anchor"]
    assert len(await registry(platform, shelf)) == 1


async def test_a_better_package_replaces_the_champion_and_a_rollback_brings_it_back(
    platform: Platform, shelf: Any, models: Any
) -> None:
    dataset = await shelf.dataset(models.unseen(300))
    old, new = await shelf.package(models.poor, A, dataset), await shelf.package(models.good, B, dataset)
    back, named, unknown = rollback(shelf), rollback(shelf, B), rollback(shelf, C)
    async with platform.running(service(platform)):
        events = await promoted(platform, old, new, back, named)
        await platform.publish(unknown)
        letter = await platform.wait_for(EventDeadLettered, letter_of(unknown), timeout=40)
    assert [(e.data.version, e.data.sequence, e.data.kind, e.data.previous) for e in events] == [
        (A, 1, "promotion", None),
        (B, 2, "promotion", A),
        (A, 3, "rollback", B),
        (B, 4, "rollback", A),
    ]
    assert events[2].data.reason == "rollback by ada: it was better"
    assert events[2].data.manifest == old.data.manifest
    assert "was never champion" in letter.data.message
    assert [p.version for p in await registry(platform, shelf)] == [A, B, A, B]


async def test_without_an_earlier_champion_there_is_nothing_to_roll_back_to(
    platform: Platform, shelf: Any, models: Any
) -> None:
    only = await shelf.package(models.good, A, await shelf.dataset(models.unseen(300)))
    request = rollback(shelf)
    async with platform.running(service(platform)):
        await promoted(platform, only)
        await platform.publish(request)
        letter = await platform.wait_for(EventDeadLettered, letter_of(request), timeout=40)
    assert "no earlier champion" in letter.data.message
    assert len(await registry(platform, shelf)) == 1


async def test_a_person_promotes_where_the_pipeline_asks_for_one(platform: Platform, shelf: Any, models: Any) -> None:
    shelf.promotion = shelf.promotion.model_copy(update={"approval": "person"})
    event = await shelf.package(models.good, A, await shelf.dataset(models.unseen(300)))
    approval = ModelApproved.root(ApprovedModel(version=A, by="ada"), subject=shelf.name, source="urn:test")
    hasty = ModelApproved.root(ApprovedModel(version=B, by="bob"), subject=shelf.name, source="urn:test")
    async with platform.running(service(platform)):
        await platform.publish(event)
        validated = await platform.wait_for(ModelValidated, after(event), timeout=40)
        assert validated.data.approval == "person"
        assert not await registry(platform, shelf)
        await platform.publish(hasty)
        letter = await platform.wait_for(EventDeadLettered, letter_of(hasty), timeout=40)
        (promotion,) = await promoted(platform, approval)
    assert "no passing report" in letter.data.message
    assert (promotion.data.version, promotion.data.reason) == (A, "approved by ada")
    assert (await registry(platform, shelf))[0].report == validated.data.report


async def test_a_forged_report_promotes_nobody(platform: Platform, shelf: Any, models: Any) -> None:
    shelf.promotion = shelf.promotion.model_copy(update={"approval": "person", "goals": {"f1": 0.99}})
    event = await shelf.package(models.poor, A, await shelf.dataset(models.unseen(300)))
    approval = ModelApproved.root(ApprovedModel(version=A, by="eve"), subject=shelf.name, source="urn:test")
    async with platform.running(service(platform)):
        await platform.publish(event)
        rejected = await platform.wait_for(ModelRejected, after(event), timeout=40)
        report = await platform.store.document(rejected.data.report, ValidationReport)
        forged: Document = report.model_copy(update={"promote": True, "passed": True})
        await platform.store.put_document(rejected.data.report.key, forged)
        await platform.publish(approval)
        letter = await platform.wait_for(EventDeadLettered, letter_of(approval), timeout=40)
    assert "no passing report" in letter.data.message


async def test_a_repeated_event_promotes_once(platform: Platform, shelf: Any, models: Any) -> None:
    """A crash after the registry was written and before the events were."""
    dataset = await shelf.dataset(models.unseen(300))
    poor, good = await shelf.package(models.poor, A, dataset), await shelf.package(models.good, B, dataset)
    async with platform.running(service(platform)):
        first, _ = await promoted(platform, poor, good)
        await platform.publish(poor.model_copy(update={"time": first.time}))
        again = await platform.wait_for(ModelPromoted, lambda e: e.id == first.id and e.time > first.time, timeout=40)
    assert again.data == first.data
    assert [p.version for p in await registry(platform, shelf)] == [A, B]


async def test_the_champion_again_is_validated_and_not_promoted_again(
    platform: Platform, shelf: Any, models: Any
) -> None:
    dataset = await shelf.dataset(models.unseen(300))
    event = await shelf.package(models.good, A, dataset)
    again = ModelPackaged.root(event.data, subject=event.subject, source="urn:test")
    async with platform.running(service(platform)):
        await promoted(platform, event)
        await platform.publish(again)
        await platform.wait_for(ModelValidated, after(again), timeout=40)
    assert len(await registry(platform, shelf)) == 1


async def test_tampering_with_model_manifest_or_signature_is_found(platform: Platform, shelf: Any, models: Any) -> None:
    store, dataset = platform.store, await shelf.dataset(models.unseen(300))
    events = [await shelf.package(models.good, version, dataset) for version in (A, B, C)]
    await store.put(package_key(shelf.name, A, "model.onnx"), models.poor)
    await store.put(package_key(shelf.name, B, "manifest.json"), await store.get(events[0].data.manifest))
    stranger = platform.directory / "stranger.pem"
    stranger.write_bytes(generate_keys()[0])
    manifest = events[2].data.manifest
    forged = Signer(stranger).attest(manifest.key, manifest.sha256)
    attestation = await store.put_document(events[2].data.attestation.key, forged)
    events[2] = ModelPackaged.root(
        events[2].data.model_copy(update={"attestation": attestation}), subject=events[2].subject, source="urn:test"
    )
    async with platform.running(service(platform)):
        await platform.publish(*events)
        letters = [await platform.wait_for(EventDeadLettered, letter_of(e), timeout=40) for e in events]
    assert [letter.data.reason for letter in letters] == ["checksum", "checksum", "poison"]
    assert "not signed by the key" in letters[2].data.message
    assert not await registry(platform, shelf)


async def test_a_package_signed_for_another_model_is_refused(platform: Platform, shelf: Any, models: Any) -> None:
    event = await shelf.package(models.good, A, await shelf.dataset(models.unseen(300)))
    lie = ModelPackaged.root(
        event.data.model_copy(update={"version": B}), subject=f"{shelf.name}/{B}", source="urn:test"
    )
    async with platform.running(service(platform)):
        await platform.publish(lie)
        letter = await platform.wait_for(EventDeadLettered, letter_of(lie), timeout=40)
    assert "of another model" in letter.data.message


async def test_a_damaged_champion_does_not_keep_a_sound_model_out(platform: Platform, shelf: Any, models: Any) -> None:
    dataset = await shelf.dataset(models.unseen(300))
    old, new = await shelf.package(models.good, A, dataset), await shelf.package(models.good, B, dataset)
    async with platform.running(service(platform)):
        await promoted(platform, old)
        await platform.store.put(package_key(shelf.name, A, "model.onnx"), b"damaged")
        (promotion,) = await promoted(platform, new)
    entry = await platform.store.document(promotion.data.promotion, Promotion)
    report = await platform.store.document(entry.report, ValidationReport)
    assert any("cannot be read" in check.message for check in report.checks)


async def test_a_champion_whose_training_record_is_lost_is_compared_with_all_the_same(
    platform: Platform, shelf: Any, models: Any
) -> None:
    dataset = await shelf.dataset(models.unseen(300))
    old, worse = await shelf.package(models.good, A, dataset), await shelf.package(models.poor, B, dataset)
    async with platform.running(service(platform)):
        await promoted(platform, old)
        await platform.store.put(model_key(shelf.name, A, "manifest.json"), b"{}")
        await platform.publish(worse)
        rejected = await platform.wait_for(ModelRejected, after(worse), timeout=40)
    assert [r.code for r in rejected.data.reasons] == ["worse_than_champion", "worse_than_anchor"]


async def test_after_a_change_only_rows_since_then_are_compared(platform: Platform, shelf: Any, models: Any) -> None:
    rows = pa.concat_tables([models.unseen(300), models.unseen(60, flipped=True, seed=1, first=300)])
    since = rows["tidemill_time"][300].as_py()
    before = await shelf.dataset(models.unseen(300))
    later = await shelf.dataset(rows, "1" * 12)
    old = await shelf.package(models.good, A, before)
    new = await shelf.package(models.wrong, B, later, since=since)
    historian = await shelf.package(models.good, C, later)
    async with platform.running(service(platform)):
        _, change = await promoted(platform, old, new)
        await platform.publish(historian)
        rejected = await platform.wait_for(ModelRejected, after(historian), timeout=40)
    report = await platform.store.read_document(change.data.promotion.key, Promotion)
    assert report is not None
    judged = await platform.store.document(report.report, ValidationReport)
    assert judged.rows == 60
    # A model trained on all rows is better on old ones, but the champion answered a change: old rows do not count.
    assert [r.code for r in rejected.data.reasons] == ["worse_than_champion"]


async def test_todays_policy_applies(platform: Platform, shelf: Any, models: Any) -> None:
    event = await shelf.package(models.good, A, await shelf.dataset(models.unseen(300)))
    stricter = PromotionPolicy(goals={"f1": 0.999}, max_latency_ms=1_000, max_batch_latency_ms=5_000)
    await platform.declare(shelf.spec.model_copy(update={"revision": 2, "promotion": stricter}))
    async with platform.running(service(platform)):
        await platform.publish(event)
        rejected = await platform.wait_for(ModelRejected, after(event), timeout=40)
    assert [r.code for r in rejected.data.reasons] == ["goal_f1"]
    assert not await platform.store.exists(promotion_key(shelf.name, 1))


def test_the_parent_process_does_not_import_the_science_libraries() -> None:
    code = (
        "import sys, tidemill_validation.app\n"
        "print(sorted({'numpy', 'pyarrow', 'onnxruntime', 'sklearn', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_child_needs_neither_scikit_learn_nor_pandas() -> None:
    code = (
        "import sys, tidemill_validation.judging\n"
        "print(sorted({'sklearn', 'scipy', 'pandas', 'onnx', 'skops'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


async def test_a_choice_against_a_champion_that_has_changed_is_made_again(
    platform: Platform, shelf: Any, models: Any
) -> None:
    dataset = await shelf.dataset(models.unseen(300))
    old, new = await shelf.package(models.poor, A, dataset), await shelf.package(models.good, B, dataset)
    async with platform.running(service(platform)) as running:
        (first,) = await promoted(platform, old)
        judged = Registry(running, PromotionSeal.of(running.settings.keys))
        ref = (await registry(platform, shelf))[0].report
        choice = Choice(B, new.data.manifest, new.data.attestation, ref, "better than none")
        with pytest.raises(Retryable, match="champion changed"):
            await judged.promote(new, choice, against=(None,))
        found = await judged.promote(new, choice, against=(first.data.version,))
    assert found is not None
    assert [p.version for p in await registry(platform, shelf)] == [A, B]
