"""The checker finds what is planted: each figure and each invariant, on evidence made by hand."""

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from faultkit.checker import check
from faultkit.evidence import Answer, Evidence, reason_of, untaken
from faultkit.fleet import Fleet
from faultkit.invariants import INVARIANTS
from faultkit.kill_points import too_few
from faultkit.load import CELL, requests
from faultkit.mutants import MUTANTS, ROOT, Mutant, run_all
from faultkit.scenarios import SCENARIOS
from faultkit.timeline import Step, deaths

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.dataset import ArrivedData, PreparedDataset, Reason, RejectedDataset
from tidemill_contracts.dead_letter import DeadLetter
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import (
    DataArrived,
    DatasetPrepared,
    DatasetRejected,
    ModelDeployed,
    ModelPromoted,
    ModelRejected,
    ModelTrained,
    ModelValidated,
    RollbackRequested,
    TrainingGranted,
)
from tidemill_contracts.model import GrantedTraining, RowSelection, TrainedModel
from tidemill_contracts.promotion import (
    DeployedModel,
    PromotedModel,
    RejectedModel,
    RequestedRollback,
    ValidatedModel,
)

V1, V2 = "1" * 12, "2" * 12
REF = ArtifactRef(key=f"packages/p/{V1}/manifest.json", sha256="a" * 64, size=1)
OTHER = ArtifactRef(key=f"packages/p/{V2}/manifest.json", sha256="b" * 64, size=1)
REPORT = ArtifactRef(key=f"reports/p/{V1}/validation-x.json", sha256="c" * 64, size=1)
DATASET = ArtifactRef(key=f"datasets/p/{V1}/manifest.json", sha256="d" * 64, size=1)
KNOWN = (REF, OTHER, REPORT, DATASET)


def answer(request: str, body: bytes = b"x", version: str = V1, id_: str | None = None, at: float = 1.0) -> Answer:
    return Answer(at, id_ or f"answer-{request}", request, version, body)


def document(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def sound() -> Evidence:
    """Rows that became a dataset; two requests, answered by a model that was validated, promoted and loaded."""
    evidence = Evidence(
        sent={"r1", "r2"},
        answers=[answer("r1"), answer("r2")],
        documents={
            "inbox/e.json": b"{}",
            "outcomes/e.json": document(event_id="e", prepared={"sequence": 1, "version": V1}, rejected=None),
            "registry/p/datasets/00000001.json": document(version=V1, manifest=of(DATASET)),
            DATASET.key: document(causes=["e"]),
            REPORT.key: report(V1, REF),
            "registry/p/promotions/00000001.json": promotion(V1, REF),
        },
        digests={ref.key: ref.sha256 for ref in KNOWN},
        logs="all is well",
        canaries=("s3cret",),
    )
    validation = ValidatedModel(
        pipeline="p", version=V1, manifest=REF, report=REPORT, metrics={}, approval="automatic"
    )  # fmt: skip
    event(evidence, ModelValidated.root(validation, subject=f"p/{V1}", source="urn:x"), 1.0)
    event(evidence, promoted(V1, REF), 1.0)
    event(evidence, deployed(V1, REF), 2.0)
    return evidence


def of(ref: ArtifactRef) -> dict[str, object]:
    return ref.model_dump(mode="json")


def report(version: str, package: ArtifactRef, *, passed: bool = True, promote: bool = True) -> bytes:
    return document(version=version, package=of(package), passed=passed, promote=promote)


def promotion(version: str, package: ArtifactRef) -> bytes:
    return document(version=version, manifest=of(package))


def promoted(version: str, package: ArtifactRef, sequence: int = 1) -> ModelPromoted:
    model = PromotedModel(
        pipeline="p", version=version, sequence=sequence, kind="promotion", promotion=REF, manifest=package,
        attestation=REF, reason="",
    )  # fmt: skip
    return ModelPromoted.root(model, subject=f"p/{version}", source="urn:x")


def deployed(version: str, package: ArtifactRef) -> ModelDeployed:
    model = DeployedModel(pipeline="p", version=version, sequence=1, manifest=package, instance="serving-1", seconds=1)
    return ModelDeployed.root(model, subject=f"p/{version}", source="urn:x")


def event(evidence: Evidence, found: Event, at: float = 0.0) -> None:  # type: ignore[type-arg]
    evidence.events.append(found)
    evidence.published_at[found.id] = at


def trained(run: str, version: str = V1) -> ModelTrained:
    model = TrainedModel(
        pipeline="p", version=version, manifest=REF, dataset_version=V1, family="linear", metrics={},
        rows={"train": 1}, trigger="drift", seconds=1.0,
    )  # fmt: skip
    return ModelTrained.root(model, subject=f"p/{version}", source="urn:x").model_copy(update={"causationid": run})


def granted(id_: str) -> TrainingGranted:
    grant = GrantedTraining(
        trigger="drift", reason="", rows=RowSelection(), dataset=REF, dataset_version=V1, spec=REF, causes=("c",)
    )
    return TrainingGranted.root(grant, subject="p", source="urn:x", id=id_)


def rejected(version: str) -> ModelRejected:
    model = RejectedModel(
        pipeline="p", version=version, manifest=OTHER, report=REPORT, reasons=(Reason(code="worse", message="w"),)
    )
    return ModelRejected.root(model, subject=f"p/{version}", source="urn:x")


def rollback(id_: str, reason: str) -> RollbackRequested:
    return RollbackRequested.root(
        RequestedRollback(by="me", reason=reason), subject="p", source="urn:x", id=id_, time=datetime.now(UTC)
    )


def test_sound_evidence_passes() -> None:
    row = check("hand-made", 0, 1.0, sound())
    assert row.passed, row.broken
    assert (row.sent, row.answered, row.lost, row.duplicated_raw) == (2, 2, 0, 0)


def test_the_figures() -> None:
    evidence = sound()
    evidence.sent.add("r3")  # lost
    evidence.answers += [answer("r1"), answer("r2", id_="another"), answer("r1", body=b"y", at=5.0)]
    evidence.faults_at = [2.0, 9.0]
    row = check("hand-made", 0, 1.0, evidence)
    assert (row.lost, row.duplicated_raw, row.doubled, row.conflicting) == (1, 2, 1, 1)
    assert (row.recovery_median, row.recovery_max) == (3.0, 3.0)
    assert not row.passed


def plant_i1(e: Evidence) -> None:
    del e.documents["outcomes/e.json"]


def plant_i1_without_an_inbox(e: Evidence) -> None:
    event(e, DataArrived.root(ArrivedData(uri="s3://b/raw/p/x", sha256="0" * 64, size=1), subject="p", source="urn:x"))


def plant_i1_prepared_twice(e: Evidence) -> None:
    e.documents["registry/p/datasets/00000002.json"] = document(version=V2, manifest=of(DATASET))


def plant_i1_prepared_and_rejected(e: Evidence) -> None:
    refused = RejectedDataset(
        pipeline="p", uri="s3://b/x", sha256="0" * 64, origin="upload", reasons=(Reason(code="bad", message="b"),)
    )
    cause = {"causationid": "e"}
    event(e, DatasetRejected.root(refused, subject="p", source="urn:x").model_copy(update=cause))


def plant_i1_neither(e: Evidence) -> None:
    e.documents["outcomes/e.json"] = document(event_id="e", prepared=None, rejected=None)
    del e.documents["registry/p/datasets/00000001.json"]


def plant_i1_told_of_otherwise(e: Evidence) -> None:
    made = PreparedDataset(
        pipeline="p", version=V2, sequence=2, manifest=DATASET, spec=DATASET, rows={}, new_rows=1, quarantined=0,
        origin="upload",
    )  # fmt: skip
    event(e, DatasetPrepared.root(made, subject="p", source="urn:x").model_copy(update={"causationid": "e"}))


def plant_i2(e: Evidence) -> None:
    event(e, rollback("same", "one"))
    event(e, rollback("same", "other"))


def step(at: float, kind: str, entry: str = "1-0", pid: int = 1, consumer: str = "serving-1") -> Step:
    return Step(at, consumer, pid, kind, "{t}:data.arrived.v1", entry)


def plant_i2_by_two_holders(e: Evidence) -> None:
    e.steps = [step(1.0, "complete"), step(2.0, "complete", pid=2, consumer="serving-2")]


def plant_i3(e: Evidence) -> None:
    e.answers.append(answer("r1", body=b"another"))


def plant_i4(e: Evidence) -> None:
    e.answers.append(answer("r9", version=V2))


def plant_i4_of_another_package(e: Evidence) -> None:
    e.documents[REPORT.key] = report(V1, OTHER)
    e.documents["registry/p/promotions/00000001.json"] = promotion(V1, OTHER)


def plant_i4_loaded_unvalidated(e: Evidence) -> None:
    event(e, deployed(V2, OTHER), 2.0)


def plant_i4_validated_after_the_load(e: Evidence) -> None:
    e.published_at = dict.fromkeys(e.published_at, 3.0)
    for found in e.events:
        if isinstance(found, ModelDeployed):
            e.published_at[found.id] = 2.0


def plant_i5(e: Evidence) -> None:
    e.digests[REPORT.key] = "b" * 64
    event(e, rejected(V2))


def plant_i5_in_a_manifest(e: Evidence) -> None:
    e.documents["models/p/manifest.json"] = document(file={"key": "gone", "sha256": "0" * 64, "size": 1})


def plant_i6(e: Evidence) -> None:
    e.documents["registry/p/promotions/00000003.json"] = promotion(V1, REF)


def plant_i6_unvalidated(e: Evidence) -> None:
    e.documents["registry/p/promotions/00000002.json"] = promotion(V2, OTHER)


def plant_i6_two_of_one_number(e: Evidence) -> None:
    event(e, promoted(V2, OTHER))


def plant_i6_told_of_but_not_kept(e: Evidence) -> None:
    event(e, promoted(V1, REF, sequence=2))


def plant_i7(e: Evidence) -> None:
    e.pending["stream group"] = 1


def plant_i7_abandoned(e: Evidence) -> None:
    e.steps = [step(1.0, "read")]


def plant_i7_never_taken_up(e: Evidence) -> None:
    e.steps = [step(1.0, "read")]
    e.killed = [1]


def plant_i7_taken_up_too_late(e: Evidence) -> None:
    e.steps = [step(1.0, "read"), step(20.0, "read", pid=2), step(21.0, "completing", pid=2)]
    e.killed, e.longest_recovery = [1], 12.0


def plant_i8(e: Evidence) -> None:
    e.before["registry/p/promotions/00000001.json"] = "0" * 64


def plant_i9(e: Evidence) -> None:
    event(e, granted("one"), 1.0)
    event(e, granted("two"), 2.0)
    event(e, trained("one"), 3.0)


def plant_i10(e: Evidence) -> None:
    e.poison = Counter({b"bad": 2})
    e.dead, e.dead_reasons = Counter({b"bad": 1}), Counter({"invalid": 1})


def plant_i10_without_a_reason(e: Evidence) -> None:
    e.dead, e.dead_reasons = Counter({b"bad": 2}), Counter({"invalid": 1, "": 1})


def plant_i11(e: Evidence) -> None:
    e.vanished = 1


def plant_i11_before_it_was_read(e: Evidence) -> None:
    e.untaken = ["stream group"]


def plant_i12(e: Evidence) -> None:
    e.documents[f"reports/p/{V2}/validation-y.json"] = report(V2, OTHER, promote=False)
    e.documents["registry/p/promotions/00000002.json"] = promotion(V2, OTHER)
    event(e, rejected(V2))


def plant_i13(e: Evidence) -> None:
    e.logs = "the password is s3cret"


def plant_i13_in_an_event(e: Evidence) -> None:
    event(e, rollback("r", "because of s3cret"))


@pytest.mark.parametrize("plant", [f for n, f in sorted(globals().items()) if n.startswith("plant_")])
def test_a_planted_violation_is_found(plant: Callable[[Evidence], None]) -> None:
    evidence = sound()
    plant(evidence)
    name = plant.__name__.split("_")[1].upper()
    broken = {violation.split(":")[0] for violation in check("hand-made", 0, 1.0, evidence).broken}
    assert name in broken


def test_every_invariant_is_planted() -> None:
    planted = {n.split("_")[1].upper() for n in globals() if n.startswith("plant_")}
    assert planted == INVARIANTS.keys()


def test_the_page_names_the_rules_and_tests_and_scenarios_that_there_are() -> None:
    lines = (Path(__file__).parent / "README.md").read_text().splitlines()
    rows = {cells[1].strip(): cells for line in lines if len(cells := line.split("|")) == 6 and cells[1][:2] == " I"}
    assert rows.keys() == INVARIANTS.keys()
    for name, (_, _, _, rule, proofs, _) in rows.items():
        assert rule.strip(" `") == INVARIANTS[name].__name__
        tests = re.findall(r"`([^`]+)::(\w+)`", proofs)
        assert tests, name
        for file, test in tests:
            assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), test
        assert set(re.findall(r'"([^"]+)"', proofs)) <= SCENARIOS.keys()


def test_one_training_after_another_is_sound() -> None:
    evidence = sound()
    event(evidence, granted("one"), 1.0)
    event(evidence, trained("one"), 2.0)
    event(evidence, granted("two"), 3.0)
    assert not list(INVARIANTS["I9"](evidence))


def test_two_groups_complete_one_entry_each() -> None:
    evidence = sound()
    evidence.steps = [step(1.0, "complete"), step(1.0, "complete", pid=2, consumer="monitoring-1")]
    assert not list(INVARIANTS["I2"](evidence))


def test_a_death_lasts_until_all_that_was_held_is_taken_up() -> None:
    life = [step(1.0, "read"), step(1.5, "complete"), step(2.0, "read", "2-0"), step(2.5, "read", "3-0")]
    again = [step(4.0, "read", "3-0", pid=2), step(5.5, "read", "2-0", pid=3, consumer="serving-2")]
    assert [(d.step, d.resumed) for d in deaths(life + again, [1])] == [("read", 3.0)]
    assert deaths(life, [1])[0].resumed is None


def test_what_took_effect_before_it_could_be_written_down_was_not_left() -> None:
    life = [step(1.0, "read", "500-0"), step(1.5, "completing", "500-0")]
    assert deaths(life, [1])[0].resumed == 0.0
    again = [step(4.0, "read", "500-0", pid=2)]
    assert deaths(life + again, [1])[0].resumed == 2.5


def test_a_death_that_interrupted_nothing_lasts_as_long_as_the_next_entry_had_to_wait() -> None:
    life = [step(1.0, "read", "500-0"), step(1.5, "complete", "500-0")]
    assert deaths(life, [1])[0].resumed == 0.0
    late = [step(60.0, "read", "59000-0", pid=2)]
    assert deaths(life + late, [1])[0].resumed == 1.0
    early = [step(60.0, "read", "1000-0", pid=2)]
    assert deaths(life + early, [1])[0].resumed == 58.5


def test_after_a_loss_of_redis_reports_alone_tell_what_was_validated() -> None:
    evidence = sound()
    evidence.events = [e for e in evidence.events if isinstance(e, ModelDeployed)]
    assert list(INVARIANTS["I4"](evidence))
    evidence.redis_lost_at = 1.0
    assert not list(INVARIANTS["I4"](evidence))


def test_letters_with_reasons_are_sound() -> None:
    evidence = sound()
    evidence.poison = Counter({b"bad": 1})
    evidence.dead, evidence.dead_reasons = Counter({b"bad": 1, b"worse": 1}), Counter({"invalid": 2})
    assert not list(INVARIANTS["I10"](evidence))


def test_a_letter_tells_its_reason() -> None:
    letter = DeadLetter(
        group="g", stream="s", entry="1-0", reason="invalid", message="no id", deliveries=1, at=datetime.now(UTC)
    )
    assert reason_of(letter.to_json()) == "invalid"
    assert not reason_of(letter.model_copy(update={"message": ""}).to_json())
    assert not reason_of(b"")


def entry(had: bytes, read: int | None = None) -> dict[str, object]:
    return {"last-delivered-id": had, "entries-read": read}


def test_what_left_a_stream_unread_is_noticed() -> None:
    counted: dict[str, object] = {"last-generated-id": b"9-0", "entries-added": 9}
    assert untaken(counted, entry(b"9-0", 7), 0)
    assert untaken(counted, entry(b"3-0", 3), 5)
    assert not untaken(counted, entry(b"3-0", 3), 6)
    before_7: dict[str, object] = {"last-generated-id": b"10-0"}
    assert untaken(before_7, entry(b"9-0"), 0)
    assert not untaken(before_7, entry(b"9-0"), 1)
    assert not untaken(before_7, entry(b"10-0"), 0)


def test_a_step_with_too_few_deaths_is_told_of() -> None:
    assert too_few({("serving", "read"): 20, ("training", "artifact"): 19}, 20) == [
        "I7: training died 19 of 20 times at artifact"
    ]


def test_no_mutant_is_caught_by_tests_that_fail_on_the_source_as_it_is(tmp_path: Path) -> None:
    tests = tmp_path / "test_it.py"
    tests.write_text("def test_it():\n    assert False\n")
    file = "shared/src/tidemill_shared/__init__.py"
    source = (ROOT / file).read_text()
    said: list[str] = []
    assert dict(run_all(said.append, [Mutant("it", file, source, source + "\n", str(tests))])) == {"it": False}
    assert said[0].startswith("no mutant can be judged")
    assert "1 failed" in said[0]


def test_every_secret_and_a_cell_are_canaries(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    public = {"verification", "redis-server", "http"}  # public keys, and digests of secrets
    files = [f for f in (tmp_path / "credentials").rglob("*") if f.is_file() and f.parent.name not in public]
    assert {str(f.relative_to(tmp_path / "credentials")) for f in files} - fleet.secrets().keys() == {
        "store/access-key"
    }
    assert all(len(secret) >= 16 for secret in fleet.secrets().values())
    with_cell = [r for r in requests(200, "seed") if CELL.encode() in r.to_json()]
    assert len(with_cell) == 2


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_safety_line_that_is_to_be_broken_is_there(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert (ROOT / mutant.tests.partition("::")[0]).exists()
