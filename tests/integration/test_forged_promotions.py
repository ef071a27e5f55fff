"""Who can write to every stream and to the whole bucket still cannot promote, approve or roll back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.document import canonical_json
from tidemill_contracts.events import ModelApproved, RollbackRequested
from tidemill_contracts.package import Attestation
from tidemill_contracts.promotion import ApprovedModel, Promotion, RequestedRollback
from tidemill_shared.credentials import create, rotate
from tidemill_shared.errors import Poison
from tidemill_shared.seal import OperatorCheck, OperatorSeal, PromotionCheck, PromotionSeal
from tidemill_shared.settings import KeySettings
from tidemill_shared.signing import Signer, Verifier, generate_keys

NOWHERE = ArtifactRef(key="packages/sales/x/manifest.json", sha256="a" * 64, size=1)


@pytest.fixture
def keys(tmp_path: Any) -> KeySettings:
    files = {}
    for name in ("promotion", "operator"):
        for part, data in zip(("private", "public"), generate_keys(), strict=True):
            files[f"{name}_{part}_file"] = tmp_path / f"{name}-{part}.pem"
            files[f"{name}_{part}_file"].write_bytes(data)
    return KeySettings(**files)


def promotion(**changes: Any) -> Promotion:
    facts: dict[str, Any] = {
        "pipeline": "sales", "sequence": 3, "version": "a" * 12, "manifest": NOWHERE, "attestation": NOWHERE,
        "report": NOWHERE, "reason": "better", "cause": "c", "promoted_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return Promotion.model_validate(facts | changes)


def test_a_sealed_promotion_opens(keys: KeySettings) -> None:
    sealed = PromotionSeal.of(keys).sealed(promotion())
    assert PromotionCheck.of(keys).opened(sealed.to_json(), "sales", 3) == sealed


def test_a_field_that_a_later_version_added_is_covered_and_does_no_harm(keys: KeySettings) -> None:
    fields = promotion().model_dump(mode="json") | {"added_later": [1, None]}
    seal = PromotionSeal.of(keys)

    class Later(Promotion):
        added_later: list[int | None]

    sealed = seal.sealed(Later.model_validate(fields)).to_json()
    assert PromotionCheck.of(keys).opened(sealed, "sales", 3).version == "a" * 12
    with pytest.raises(Poison, match="not signed by"):
        PromotionCheck.of(keys).opened(sealed.replace(b"[1,null]", b"[2,null]"), "sales", 3)


@pytest.mark.parametrize(
    "forge",
    [
        lambda d: d | {"version": "b" * 12},
        lambda d: d | {"manifest": d["manifest"] | {"sha256": "b" * 64}},
        lambda d: d | {"report": d["report"] | {"size": 2}},
        lambda d: d | {"kind": "rollback"},
        lambda d: d | {"signature": None},
        lambda d: d | {"signature": ""},
        lambda d: d | {"signature": "!!"},
        lambda d: d | {"signature": {"a": 1}},
        lambda d: d | {"signature": "A" * 88},
        lambda d: d | {"extra": 1},
        lambda d: [d],
        lambda d: "x",
        lambda d: None,
    ],
)
def test_whatever_is_changed_the_seal_is_broken(keys: KeySettings, forge: Callable[[Any], Any]) -> None:
    sealed = PromotionSeal.of(keys).sealed(promotion()).model_dump(mode="json")
    with pytest.raises(Poison):
        PromotionCheck.of(keys).opened(canonical_json(forge(sealed)), "sales", 3)


def test_a_seal_is_for_one_place_in_the_registry(keys: KeySettings) -> None:
    sealed = PromotionSeal.of(keys).sealed(promotion()).to_json()
    for pipeline, sequence in (("sales", 4), ("other", 3)):
        with pytest.raises(Poison, match="another place"):
            PromotionCheck.of(keys).opened(sealed, pipeline, sequence)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"signature":"eA=="}'])
def test_bytes_that_are_nothing_are_refused(keys: KeySettings, data: bytes) -> None:
    with pytest.raises(Poison):
        PromotionCheck.of(keys).opened(data, "sales", 3)


def test_an_operators_request_cannot_be_forged_changed_or_reused(keys: KeySettings) -> None:
    check, seal = OperatorCheck.of(keys), OperatorSeal.of(keys)
    approval = ModelApproved.root(
        ApprovedModel(version="a" * 12, by="ann"), subject=f"sales/{'a' * 12}", source="urn:test"
    )
    rollback = RollbackRequested.root(RequestedRollback(by="ann"), subject="sales", source="urn:test")
    signed = seal.sealed(approval)
    check.check(ModelApproved.model_validate_json(signed.to_json()))
    check.check(RollbackRequested.model_validate_json(seal.sealed(rollback).to_json()))
    other = signed.data.model_copy(update={"version": "b" * 12})
    borrowed = rollback.data.model_copy(update={"signature": signed.data.signature})
    for forged in (
        approval,
        rollback,
        signed.model_copy(update={"id": "another"}),
        signed.model_copy(update={"subject": f"other/{'a' * 12}"}),
        signed.model_copy(update={"data": other}),
        rollback.model_copy(update={"data": borrowed}),
    ):
        with pytest.raises(Poison, match="not signed"):
            check.check(forged)


@pytest.mark.parametrize("forget", [False, True])
def test_what_was_signed_before_a_rotation_is_believed_unless_it_is_to_be_forgotten(
    tmp_path: Path, forget: bool
) -> None:
    made = create(tmp_path / "credentials")

    def keys() -> KeySettings:
        return KeySettings(
            promotion_private_file=made.promotion_private_key,
            promotion_public_file=made.promotion_public_key,
            operator_private_file=made.operator_private_key,
            operator_public_file=made.operator_public_key,
        )

    rollback = RollbackRequested.root(RequestedRollback(by="ann"), subject="sales", source="urn:test")

    def signed() -> tuple[bytes, RollbackRequested, Attestation]:
        package = Signer(made.private_key).attest("packages/x", "a" * 64)
        return (
            PromotionSeal.of(keys()).sealed(promotion()).to_json(),
            OperatorSeal.of(keys()).sealed(rollback),
            package,
        )

    def believed(sealed: bytes, request: RollbackRequested, package: Attestation) -> list[bool]:
        checks = (
            lambda: PromotionCheck.of(keys()).opened(sealed, "sales", 3),
            lambda: PromotionSeal.of(keys()).check.opened(sealed, "sales", 3),
            lambda: OperatorCheck.of(keys()).check(request),
            lambda: Verifier(made.public_key).verify(package, "packages/x", "a" * 64),
        )
        found = []
        for check in checks:
            try:
                check()
                found.append(True)
            except Poison:
                found.append(False)
        return found

    before = signed()
    rotate(made.directory, ["signing"], forget=forget)
    assert believed(*before) == [not forget] * 4
    assert believed(*signed()) == [True] * 4
    rotate(made.directory, ["signing"])
    assert believed(*before) == [not forget] * 4
