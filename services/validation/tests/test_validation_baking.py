"""Decisions that later rows judge again, on real Redis and S3."""

from typing import Any

import pytest

from tidemill_contracts.artifacts import ArtifactRef, promotions_prefix
from tidemill_contracts.dataset import PreparedDataset
from tidemill_contracts.events import (
    DatasetPrepared,
    EventDeadLettered,
    ModelApproved,
    ModelPromoted,
    ModelRejected,
    ModelValidated,
)
from tidemill_contracts.promotion import ApprovedModel, Promotion, ValidationReport
from tidemill_shared.testing.platform import Platform, after
from tidemill_validation.app import build
from tidemill_validation.domain import looks
from tidemill_validation.settings import ValidationSettings

A, B, C = "a" * 12, "b" * 12, "c" * 12


def approval(shelf: Any, version: str) -> ModelApproved:
    return ModelApproved.root(ApprovedModel(version=version, by="ada"), subject=shelf.name, source="urn:test")


async def arrived(shelf: Any, rows: Any, version: str) -> DatasetPrepared:
    """New rows that belong to no model's past."""
    manifest: ArtifactRef = await shelf.dataset(rows, version)
    data = {
        "pipeline": shelf.name,
        "version": version,
        "sequence": 2,
        "manifest": manifest,
        "spec": manifest,
        "rows": {"test": len(rows)},
        "new_rows": len(rows),
        "quarantined": 0,
        "origin": "feedback",
    }
    return DatasetPrepared.root(PreparedDataset.model_validate(data), subject=shelf.name, source="urn:test")


async def versions(platform: Platform, shelf: Any) -> list[tuple[str, str, str | None]]:
    keys = await platform.store.list(promotions_prefix(shelf.name))
    found = [await platform.store.read_document(key, Promotion) for key in keys]
    return [(p.version, p.kind, p.withdrawn) for p in found if p is not None]


async def test_a_champion_that_later_rows_show_to_be_worse_gives_its_place_back_for_good(
    platform: Platform, shelf: Any, models: Any
) -> None:
    """A batch whose labels are all flipped deceives the gate; 250 rows with right ones undo it."""
    shelf.promotion = shelf.promotion.model_copy(update={"anchor": "off"})  # which would have seen it
    good = await shelf.package(models.good, A, await shelf.dataset(models.unseen(300)))
    poisoned = await shelf.dataset(models.unseen(300, flipped=True, first=300), "1" * 12)
    bad = await shelf.package(models.wrong, B, poisoned)
    truth = await arrived(shelf, models.unseen(250, first=600), "2" * 12)
    person = approval(shelf, B)
    await platform.declare(shelf.spec)
    async with platform.running(build(platform.settings(ValidationSettings))):
        for event in (good, bad, truth):
            await platform.publish(event)
            promotion = await platform.wait_for(ModelPromoted, after(event), timeout=40)
        again = await shelf.package(models.wrong, B, poisoned)
        await platform.publish(again)
        refused = await platform.wait_for(ModelRejected, after(again), timeout=40)
        await platform.publish(person)
        letter = await platform.wait_for(EventDeadLettered, lambda e: e.data.event_id == person.id, timeout=40)
    assert promotion.data.withdrawn == B and "better on 250 rows" in promotion.data.reason
    assert "withdrawn" in [r.code for r in refused.data.reasons]
    assert "withdrawn" in letter.data.message
    assert await versions(platform, shelf) == [(A, "promotion", None), (B, "promotion", None), (A, "rollback", B)]


async def test_a_candidate_that_later_rows_show_to_be_better_is_promoted_then(
    platform: Platform, shelf: Any, models: Any
) -> None:
    dataset = await shelf.dataset(models.unseen(60))
    old = await shelf.package(models.logistic(4.0, 0.0, bias=1.6), A, dataset)
    new = await shelf.package(models.good, B, dataset)
    few = await arrived(shelf, models.unseen(50, seed=1, first=60), "1" * 12)
    more = await arrived(shelf, models.unseen(250, seed=1, first=60), "2" * 12)
    await platform.declare(shelf.spec)
    async with platform.running(build(platform.settings(ValidationSettings))):
        await platform.publish(old)
        await platform.wait_for(ModelPromoted, after(old), timeout=40)
        await platform.publish(new)
        await platform.wait_for(ModelRejected, after(new), timeout=40)
        await platform.publish(few, more)
        promotion = await platform.wait_for(ModelPromoted, lambda e: e.data.version == B, timeout=40)
        validated = await platform.wait_for(ModelValidated, lambda e: e.data.version == B, timeout=40)
    assert promotion.causationid == more.id
    report = await platform.store.document(validated.data.report, ValidationReport)
    assert (report.rows, report.against) == (250, A)


async def test_an_approval_counts_against_the_present_champion_only(
    platform: Platform, shelf: Any, models: Any
) -> None:
    """A and B pass before the same champion. Once A has its place, B must show that it is better than A."""
    shelf.promotion = shelf.promotion.model_copy(update={"approval": "person"})
    dataset = await shelf.dataset(models.unseen(300))
    packages = [
        await shelf.package(model, version, dataset)
        for model, version in ((models.poor, C), (models.good, A), (models.logistic(3.9, 0.0), B))
    ]
    async with platform.running(build(platform.settings(ValidationSettings))):
        for version, events in ((C, packages[:1]), (A, packages[1:])):
            for event in events:
                await platform.publish(event)
                await platform.wait_for(ModelValidated, after(event), timeout=40)
            await platform.publish(yes := approval(shelf, version))
            await platform.wait_for(ModelPromoted, after(yes), timeout=40)
        await platform.publish(late := approval(shelf, B))
        refused = await platform.wait_for(ModelRejected, after(late), timeout=40)
    assert [r.code for r in refused.data.reasons] == ["no_significant_gain"]
    assert [v for v, _, _ in await versions(platform, shelf)] == [C, A]


@pytest.mark.parametrize(
    ("before", "now", "due"), [(0, 99, False), (99, 100, True), (100, 199, False), (150, 450, True)]
)
def test_a_look_comes_when_the_rows_have_doubled(before: int, now: int, due: bool) -> None:
    assert looks.due(before, now, 1_000) == due


def test_all_looks_together_are_as_sure_as_one() -> None:
    assert looks.marks(1_000) == [100, 200, 400, 800, 1_000]
    assert 5 * (1 - looks.confidence(0.95, 1_000)) == pytest.approx(0.05)
    assert looks.marks(50) == [] and not looks.due(0, 1_000, 50)
    assert not looks.due(1_000, 5_000, 1_000)
