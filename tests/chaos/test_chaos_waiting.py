from typing import Any

from faultkit.waiting import Waiting

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.events import ModelPromoted, RetrainSuppressed, TrainingGranted
from tidemill_contracts.model import GrantedTraining, SuppressedRetrain
from tidemill_contracts.promotion import PromotedModel

NOWHERE = ArtifactRef(key="nowhere", sha256="0" * 64, size=0)


def granted(trigger: str) -> TrainingGranted:
    found = GrantedTraining(
        trigger="drift", reason="", dataset=NOWHERE, dataset_version="0" * 12, spec=NOWHERE, causes=(trigger,)
    )
    return caused(TrainingGranted.root(found, subject="p", source="urn:test"), trigger)


def suppressed(trigger: str, reason: Any, *, queued: bool = True) -> RetrainSuppressed:
    found = SuppressedRetrain(trigger="drift", reason=reason, message="", queued=queued)
    return caused(RetrainSuppressed.root(found, subject="p", source="urn:test"), trigger)


def caused(event: Any, trigger: str) -> Any:
    return event.model_copy(update={"causationid": trigger})


def after(*events: Any) -> Waiting:
    waiting = Waiting()
    for event in events:
        waiting.take(event)
    return waiting


def test_what_is_merged_into_a_trigger_does_not_wait_beside_it() -> None:
    storm = [suppressed(f"c{number}", "coalesced") for number in range(50)]
    waiting = after(granted("a"), suppressed("b", "in_flight"), *storm)
    assert (waiting.most, waiting.soon) == (1, True)
    served = after(granted("a"), suppressed("b", "in_flight"), *storm, granted("b"))
    assert (served.granted, served.most, served.now) == (["a", "b"], 1, {})


def test_two_that_wait_at_once_are_seen() -> None:
    waiting = after(granted("a"), suppressed("b", "in_flight"), suppressed("c", "cool_down"), granted("b"))
    assert (waiting.most, list(waiting.now)) == (2, ["c"])


def test_one_that_takes_the_place_of_another_waits_alone() -> None:
    replaced = suppressed("a", "stale", queued=False)
    waiting = after(granted("a"), suppressed("a", "waiting_for_rows"), replaced, suppressed("b", "waiting_for_rows"))
    assert (waiting.most, waiting.soon) == (1, False)


def test_a_second_attempt_ends_with_the_promotion_of_the_first_ones_model() -> None:
    entry = PromotedModel(
        pipeline="p", version="0" * 12, sequence=2, kind="promotion", promotion=NOWHERE, manifest=NOWHERE,
        attestation=NOWHERE, reason="test",
    )  # fmt: skip
    promoted = ModelPromoted.root(entry, subject="p", source="urn:test")
    waiting = after(granted("a"), suppressed("a", "waiting_for_rows"), promoted, suppressed("b", "cool_down"))
    assert (waiting.most, list(waiting.now)) == (1, ["b"])
