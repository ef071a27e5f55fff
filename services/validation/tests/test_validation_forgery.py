"""Validation trusts its own entries of the registry, and the requests that an operator signed."""

from typing import Any

from tidemill_contracts.artifacts import promotion_key
from tidemill_contracts.events import (
    EventDeadLettered,
    ModelApproved,
    ModelPromoted,
    ModelValidated,
    RollbackRequested,
    TrialRequested,
)
from tidemill_contracts.promotion import ApprovedModel, Promotion, RequestedRollback
from tidemill_contracts.rollout import RequestedTrial
from tidemill_shared.credentials import Credentials
from tidemill_shared.seal import OperatorSeal
from tidemill_shared.testing.platform import Platform, after
from tidemill_validation.app import build
from tidemill_validation.settings import ValidationSettings

A, B = "a" * 12, "b" * 12


async def test_an_entry_of_somebody_else_is_no_champion_and_keeps_no_model_out(
    platform: Platform, shelf: Any, models: Any
) -> None:
    dataset = await shelf.dataset(models.unseen(300))
    old, new = await shelf.package(models.poor, A, dataset), await shelf.package(models.good, B, dataset)
    async with platform.running(build(platform.settings(ValidationSettings))):
        await platform.publish(old)
        first = await platform.wait_for(ModelPromoted, after(old), timeout=40)
        genuine = await platform.store.document(first.data.promotion, Promotion)
        # It names the cause that is about to come: were it believed, it would be announced as its result.
        forged = genuine.model_copy(update={"sequence": 2, "version": B, "cause": new.id, "kind": "rollback"})
        await platform.store.put_document(promotion_key(shelf.name, 2), forged)
        await platform.store.put(f"registry/{shelf.name}/promotions/zzz", b"not an entry at all")
        await platform.publish(new)
        second = await platform.wait_for(ModelPromoted, after(new), timeout=40)
    assert (second.data.sequence, second.data.version, second.data.kind) == (3, B, "promotion")
    assert second.data.previous == A


async def test_only_an_operator_approves_and_rolls_back(platform: Platform, shelf: Any, models: Any) -> None:
    made = Credentials(platform.directory / "credentials")
    settings = platform.settings(ValidationSettings)
    keys = {"operator_public_file": made.operator_public_key, "operator_private_file": made.operator_private_key}
    settings = settings.model_copy(update={"keys": settings.keys.model_copy(update=keys)})
    seal = OperatorSeal.of(settings.keys)
    shelf.promotion = shelf.promotion.model_copy(update={"approval": "person"})
    package = await shelf.package(models.good, A, await shelf.dataset(models.unseen(300)))
    approval = ModelApproved.root(ApprovedModel(version=A, by="eve"), subject=f"{shelf.name}/{A}", source="urn:test")
    rollback = RollbackRequested.root(RequestedRollback(by="eve"), subject=shelf.name, source="urn:test")
    wanted = RequestedTrial(action="promote", trial=1, by="eve")
    trial = TrialRequested.root(wanted, subject=shelf.name, source="urn:test")
    async with platform.running(build(settings)):
        await platform.publish(package)
        await platform.wait_for(ModelValidated, timeout=40)
        await platform.publish(approval, rollback, trial)
        for event in (approval, rollback, trial):
            letter = await platform.wait_for(EventDeadLettered, lambda e, event=event: e.data.event_id == event.id)
            assert "is not signed" in letter.data.message
        assert await platform.events(ModelPromoted) == []
        signed = seal.sealed(approval.model_copy(update={"id": "by-ann"}))
        await platform.publish(signed)
        found = await platform.wait_for(ModelPromoted, timeout=40)
    assert (found.data.version, found.causationid) == (A, "by-ann")
