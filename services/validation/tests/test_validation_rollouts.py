"""Rollouts conducted, on real Redis and S3; what serving processes would count is told here."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tidemill_contracts.artifacts import ArtifactRef, promotions_prefix, report_key, trials_prefix
from tidemill_contracts.dataset import PreparedDataset
from tidemill_contracts.events import (
    DatasetPrepared,
    EventDeadLettered,
    ModelApproved,
    ModelPackaged,
    ModelPromoted,
    ModelRejected,
    RolloutChanged,
    RolloutObserved,
    TrialRequested,
)
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import ApprovedModel, ValidationReport
from tidemill_contracts.rollout import Observation, ObservedRollout, RequestedTrial, RolloutPolicy, Trial
from tidemill_shared.errors import Retryable, StoreUnavailable
from tidemill_shared.seal import PromotionSeal
from tidemill_shared.signing import Verifier
from tidemill_shared.testing.platform import Platform, after
from tidemill_validation.app import build
from tidemill_validation.conducting import Conducting
from tidemill_validation.domain import rollout
from tidemill_validation.domain.rollout import Counts, Limits
from tidemill_validation.observations import Observations, counts_of
from tidemill_validation.owed import Owed
from tidemill_validation.packages import Packages
from tidemill_validation.promoting import Choice, Registry
from tidemill_validation.settings import ValidationSettings
from tidemill_validation.steps import Steps
from tidemill_validation.trials import Trials, changed

A, B, C = "a" * 12, "b" * 12, "c" * 12
FAST = {"30": 50}
"""50 calls of some 0.7 ms."""


def observed(trial: int, rows: int, *, run: str = "one", problem: str = "", **challenger: Any) -> RolloutObserved:
    """Counts of a stage: the champion's are fine, and so are the challenger's but for what is said."""
    champion = Observation(version=A, rows=1_000, calls=FAST, answers={"yes": 500, "no": 500})
    counts = {"rows": rows, "calls": FAST, "answers": {"yes": rows // 2, "no": rows - rows // 2}} | challenger
    data = ObservedRollout(
        trial=trial, run=run, champion=champion, challenger=Observation(version=B, **counts), problem=problem
    )
    return RolloutObserved.root(data, subject=f"flow/{B}", source="urn:test")


def staged(shelf: Any, **changes: Any) -> PipelineSpec:
    policy = RolloutPolicy(**({"canary": (0.1, 0.5), "bake_rows": 100} | changes))
    spec: PipelineSpec = shelf.spec
    return spec.model_copy(update={"rollout": policy, "revision": 2})


async def judged(platform: Platform, *packages: ModelPackaged) -> RolloutChanged:
    """The first becomes champion at once, the last begins to be tried."""
    await platform.publish(packages[0])
    await platform.wait_for(ModelPromoted, after(packages[0]), timeout=40)
    for package in packages[1:]:
        await platform.publish(package)
        changed = await platform.wait_for(RolloutChanged, after(package), timeout=40)
    return changed


async def told(platform: Platform, event: RolloutObserved) -> RolloutChanged:
    """What counts lead to."""
    await platform.publish(event)
    return await platform.wait_for(RolloutChanged, after(event), timeout=40)


async def two(shelf: Any, models: Any) -> tuple[ModelPackaged, ModelPackaged]:
    dataset = await shelf.dataset(models.unseen(300))
    return await shelf.package(models.poor, A, dataset), await shelf.package(models.good, B, dataset)


async def test_a_challenger_goes_through_its_stages_across_a_restart_and_is_promoted(
    platform: Platform, shelf: Any, models: Any
) -> None:
    packages = await two(shelf, models)
    await platform.declare(staged(shelf))
    async with platform.running(build(platform.settings(ValidationSettings))):
        first = await judged(platform, *packages)
        await platform.publish(observed(first.data.sequence, 50, run="one"))
    async with platform.running(build(platform.settings(ValidationSettings))):
        # 50 and 50 rows of two processes are the step's hundred; counts told before the restart count.
        second = await told(platform, observed(first.data.sequence, 50, run="two"))
        await platform.publish(observed(first.data.sequence, 100))  # of the stage before: says nothing any more
        assert [p.data.version for p in await platform.events(ModelPromoted)] == [A]
        end = observed(second.data.sequence, 100)
        third = await told(platform, end)
        promoted = await platform.wait_for(ModelPromoted, after(end), timeout=40)
        await platform.publish(end)  # once more, as after a crash: the same events again, and no other entry
        async with asyncio.timeout(40):
            while [e.id for e in await platform.events(RolloutChanged)].count(third.id) < 2:
                await asyncio.sleep(0.05)
    assert [(e.data.stage, e.data.share) for e in (first, second, third)] == [
        ("canary", 0.1),
        ("canary", 0.5),
        ("finished", 0.0),
    ]
    assert second.data.evidence is not None and second.data.evidence.rows == 100
    assert (promoted.data.version, promoted.data.previous) == (B, A) and "rolled out" in promoted.data.reason
    assert len(await platform.store.list(promotions_prefix(shelf.name))) == 2
    assert len(await platform.store.list(trials_prefix(shelf.name))) == 3


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"failed": 30}, "fails"),
        ({"calls": {"42": 50}}, "a call takes"),
        ({"answers": {"yes": 80, "no": 0}}, "differ"),
        ({"problem": "golden row 1: other answer"}, "golden row 1"),
    ],
)
async def test_a_bad_challenger_is_stopped_with_its_reason_and_not_tried_again(
    platform: Platform, shelf: Any, models: Any, bad: dict[str, Any], word: str
) -> None:
    packages = await two(shelf, models)
    await platform.declare(staged(shelf))
    async with platform.running(build(platform.settings(ValidationSettings))):
        first = await judged(platform, *packages)
        event = observed(first.data.sequence, 80, **bad)  # before the step is over
        end = await told(platform, event)
        rejected = await platform.wait_for(ModelRejected, after(event), timeout=40)
        again = await shelf.package(models.good, B, await shelf.dataset(models.unseen(300)))
        await platform.publish(again)
        refused = await platform.wait_for(ModelRejected, after(again), timeout=40)
        assert [p.data.version for p in await platform.events(ModelPromoted)] == [A]
    assert (end.data.stage, end.data.share) == ("abandoned", 0.0) and word in end.data.reason
    assert rejected.data.version == B and word in rejected.data.reasons[0].message
    assert "withdrawn" in [r.code for r in refused.data.reasons]


async def handled(platform: Platform, event: Any) -> None:
    """Wait until validation is done with everything in an event's stream."""
    stream = event.stream(platform.namespace)
    async with asyncio.timeout(40):
        while True:
            (group,) = [g for g in await platform.redis.xinfo_groups(stream) if g["name"] == b"validation"]
            last = (await platform.redis.xrevrange(stream, count=1))[0][0]
            if group["pending"] == 0 and group["last-delivered-id"] == last:
                return
            await asyncio.sleep(0.05)


async def test_an_approved_champion_is_not_tried_beside_itself(platform: Platform, shelf: Any, models: Any) -> None:
    packages = await two(shelf, models)
    await platform.declare(staged(shelf))
    async with platform.running(build(platform.settings(ValidationSettings))):
        await judged(platform, *packages)
        again = ModelApproved.root(ApprovedModel(version=A, by="ann"), subject=f"flow/{A}", source="urn:test")
        twice = ModelApproved.root(ApprovedModel(version=B, by="ann"), subject=f"flow/{B}", source="urn:test")
        await platform.publish(again, twice)  # what is champion already, and what is tried already
        await handled(platform, again)
        assert await platform.events(EventDeadLettered) == []
        assert [(e.data.sequence, e.data.version) for e in await platform.events(RolloutChanged)] == [(1, B)]


def stepping(service: Any, registry: Registry, trials: Trials, observations: Observations) -> Steps:
    anchoring: Any = None  # no promotion here brings an anchor
    return Steps(service, registry, trials, observations, Owed(service, registry, anchoring))


async def test_a_challenger_judged_against_another_champion_begins_no_trial(
    platform: Platform, shelf: Any, models: Any
) -> None:
    """It is judged again, as one that would be promoted at once is."""
    packages = await two(shelf, models)
    await platform.declare(staged(shelf))
    settings = platform.settings(ValidationSettings)
    async with platform.running(build(settings)):
        first = await judged(platform, *packages)
    service: Any = SimpleNamespace(bus=platform.bus, store=platform.store, pipelines=None)
    seal, observations = PromotionSeal.of(settings.keys), Observations(platform.bus)
    registry, trials = Registry(service, seal), Trials(service, seal)
    packs = Packages(platform.store, Verifier(settings.keys.public_file))
    steps = stepping(service, registry, trials, observations)
    conducting = Conducting(service, registry, packs, trials, observations, steps)
    trial = Trial.from_json(await platform.store.get(first.data.trial))
    choice = Choice(C, trial.manifest, trial.attestation, trial.report, "better than a model of yesterday")
    with pytest.raises(Retryable, match="the champion changed"):
        await conducting.place(packages[1].model_copy(update={"id": "late"}), choice, staged(shelf), C)
    assert [t.version for t in await trials.all(shelf.name)] == [B]


def wanted(trial: int, action: str, **facts: Any) -> TrialRequested:
    data = RequestedTrial.model_validate({"trial": trial, "action": action, "by": "ann", **facts})
    return TrialRequested.root(data, subject="flow", source="urn:test")


async def asked(platform: Platform, event: TrialRequested) -> RolloutChanged:
    await platform.publish(event)
    return await platform.wait_for(RolloutChanged, after(event), timeout=40)


class Away(Trials):
    """The store goes away after the promotion, before the entry that ends the trial."""

    async def append(self, cause: Any, facts: dict[str, Any]) -> Trial:
        raise StoreUnavailable("away")


async def tried(platform: Platform, package: ModelPackaged) -> dict[str, Any]:
    """The entry with which a package that passed begins to be tried on half of the requests."""
    data = package.data
    facts = {"package": data.manifest, "dataset": data.manifest, "passed": True, "promote": True, "rows": 300}
    facts |= {"metrics": {}, "checks": (), "causes": ("test",), "seed": 0, "code_version": "0"}
    report = ValidationReport.model_validate({"pipeline": data.pipeline, "version": data.version, **facts})
    ref = await platform.store.put_document(report_key(data.pipeline, data.version, "0" * 64), report)
    entry = {"stage": "canary", "share": 0.5, "version": data.version, "against": A, "reason": "better"}
    return entry | {"manifest": data.manifest, "attestation": data.attestation, "report": ref}


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("overtaken", [True, False])
async def test_a_promotion_is_told_though_the_end_of_its_trial_was_not_written(
    platform: Platform, shelf: Any, models: Any, asks: bool, overtaken: bool
) -> None:
    first, second = await two(shelf, models)
    spec = staged(shelf, canary=(0.5,))
    await platform.declare(spec)
    settings = platform.settings(ValidationSettings)
    service: Any = SimpleNamespace(bus=platform.bus, store=platform.store, pipelines=None)
    seal, observations = PromotionSeal.of(settings.keys), Observations(platform.bus)
    registry, trials = Registry(service, seal), Trials(service, seal)
    await registry.promote(first, Choice(A, first.data.manifest, first.data.attestation, first.data.manifest, "first"))
    trial = await trials.append(second, await tried(platform, second))
    event = wanted(1, "promote") if asks else observed(1, 100)
    steps = stepping(service, registry, Away(service, seal), observations)
    with pytest.raises(StoreUnavailable):
        await steps.onward(event, trial, spec.rollout, "as asked", None)
    other = observed(1, 1) if overtaken else event  # counts that come before it is delivered again
    async with platform.running(build(settings)):
        for delivered in (other, event, other):
            await platform.publish(delivered)
            await handled(platform, delivered)
    ids = {after(event)(p) and p.id for p in await platform.events(ModelPromoted)}
    assert len(await platform.events(ModelPromoted)) == 3 and len(ids) == 1 and ids != {False}
    ended = await trials.all(shelf.name)
    assert [t.stage for t in ended] == ["canary", "finished"] and ended[-1].cause == other.id
    assert {e.id for e in await platform.events(RolloutChanged)} == {changed(other, ended[-1]).id}
    assert [p.version for p in await registry.history(shelf.name)] == [A, B]
    assert await platform.events(EventDeadLettered) == []


async def test_a_person_hastens_a_trial_and_promotes(platform: Platform, shelf: Any, models: Any) -> None:
    packages = await two(shelf, models)
    await platform.declare(staged(shelf, shadow=True))
    async with platform.running(build(platform.settings(ValidationSettings))):
        first = await judged(platform, *packages)
        await platform.publish(observed(first.data.sequence, 50))
        late = wanted(7, "end")  # about an entry that there is not: it ends nothing
        await platform.publish(late)
        letter = await platform.wait_for(EventDeadLettered, lambda e: e.data.event_id == late.id, timeout=40)
        second = await asked(platform, wanted(first.data.sequence, "advance", reason="a quiet night"))
        promote = wanted(second.data.sequence, "promote")
        third = await asked(platform, promote)
        promoted = await platform.wait_for(ModelPromoted, after(promote), timeout=40)
        await platform.publish(promote)  # once more, as after a crash
        async with asyncio.timeout(40):
            while [e.id for e in await platform.events(RolloutChanged)].count(third.id) < 2:
                await asyncio.sleep(0.05)
    assert [(e.data.stage, e.data.share) for e in (first, second, third)] == [
        ("shadow", 0.0),
        ("canary", 0.1),
        ("finished", 0.0),
    ]
    assert "has gone on to 1 (shadow)" in letter.data.message
    assert second.data.reason == "hastened by ann: a quiet night"
    assert second.data.evidence is not None and second.data.evidence.rows == 50
    assert (promoted.data.version, promoted.data.reason) == (B, "rolled out: promoted by ann")
    assert len(await platform.store.list(trials_prefix(shelf.name))) == 3


@pytest.mark.parametrize("refuse", [False, True])
async def test_a_person_ends_a_trial(platform: Platform, shelf: Any, models: Any, refuse: bool) -> None:
    packages = await two(shelf, models)
    await platform.declare(staged(shelf))
    async with platform.running(build(platform.settings(ValidationSettings))):
        first = await judged(platform, *packages)
        end = await asked(platform, wanted(first.data.sequence, "end", reason="a holiday", refuse=refuse))
        again = await shelf.package(models.good, B, await shelf.dataset(models.unseen(300)))
        await platform.publish(again)
        if refuse:
            refused = await platform.wait_for(ModelRejected, after(again), timeout=40)
            assert "withdrawn" in [r.code for r in refused.data.reasons]
        else:  # nothing is held against it
            tried = await platform.wait_for(RolloutChanged, after(again), timeout=40)
            assert (tried.data.version, tried.data.stage, tried.data.share) == (B, "canary", 0.1)
        assert [p.data.version for p in await platform.events(ModelPromoted)] == [A]
        assert len(await platform.events(ModelRejected)) == 2 * refuse
    assert (end.data.stage, end.data.reason) == ("abandoned", "ended by ann: a holiday")
    assert end.data.evidence is None


async def arrived(shelf: Any, rows: Any, version: str) -> DatasetPrepared:
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


async def test_labels_that_show_the_challenger_to_be_worse_stop_it(platform: Platform, shelf: Any, models: Any) -> None:
    """The gate was deceived by a batch of flipped labels; 250 rows with right ones are seen while it is tried."""
    shelf.promotion = shelf.promotion.model_copy(update={"anchor": "off"})  # which would have seen it
    good = await shelf.package(models.good, A, await shelf.dataset(models.unseen(300)))
    poisoned = await shelf.dataset(models.unseen(300, flipped=True, first=300), "1" * 12)
    bad = await shelf.package(models.wrong, B, poisoned)
    truth = await arrived(shelf, models.unseen(250, first=600), "2" * 12)
    await platform.declare(staged(shelf))
    async with platform.running(build(platform.settings(ValidationSettings))):
        await judged(platform, good, bad)
        await platform.publish(truth)
        end = await platform.wait_for(RolloutChanged, after(truth), timeout=40)
    assert end.data.stage == "abandoned" and "worse than the champion on 250 labelled rows" in end.data.reason


async def test_a_newer_challenger_takes_the_place_of_the_one_that_is_tried(
    platform: Platform, shelf: Any, models: Any
) -> None:
    dataset = await shelf.dataset(models.unseen(300))
    packages = [
        await shelf.package(model, version, dataset)
        for model, version in ((models.poor, A), (models.good, B), (models.logistic(5.0, 0.0), C))
    ]
    await platform.declare(staged(shelf))
    async with platform.running(build(platform.settings(ValidationSettings))):
        last = await judged(platform, *packages)
        await platform.publish(observed(1, 500))
        second = await told(platform, observed(last.data.sequence, 500))
    assert (last.data.version, last.data.sequence) == (C, 2) and f"takes the place of {B}" in last.data.reason
    assert (second.data.version, second.data.share) == (C, 0.5)


async def test_an_entry_that_somebody_else_wrote_is_no_trial(platform: Platform, shelf: Any, models: Any) -> None:
    packages = await two(shelf, models)
    await platform.declare(staged(shelf))
    async with platform.running(build(platform.settings(ValidationSettings))):
        first = await judged(platform, *packages)
        genuine = Trial.from_json(await platform.store.get(first.data.trial))
        forged = genuine.model_copy(update={"sequence": 2, "stage": "canary", "share": 1.0})
        await platform.store.put_document(f"{trials_prefix(shelf.name)}00000002.json", forged)
        await platform.publish(observed(2, 500))
        second = await told(platform, observed(1, 500))
    assert (second.data.sequence, second.data.share) == (3, 0.5)


def watched(promotion: int, rows: int, **challenger: Any) -> RolloutObserved:
    """Counts after a promotion: the model before scored the same rows."""
    event = observed(1, rows, **challenger)
    data = event.data.model_copy(update={"trial": 0, "promotion": promotion})
    return event.model_copy(update={"data": data})


async def test_a_promotion_whose_model_fails_in_production_is_taken_back_for_good(
    platform: Platform, shelf: Any, models: Any
) -> None:
    packages = await two(shelf, models)
    await platform.declare(staged(shelf, canary=(), watch_rows=500))
    async with platform.running(build(platform.settings(ValidationSettings))):
        for package in packages:
            await platform.publish(package)
            await platform.wait_for(ModelPromoted, after(package), timeout=40)
        assert await platform.events(RolloutChanged) == []
        await platform.publish(watched(1, 100, failed=60), watched(2, 100))
        alarm = watched(2, 150, failed=60)
        await platform.publish(alarm)
        back = await platform.wait_for(ModelPromoted, after(alarm), timeout=40)
        later = watched(3, 150, failed=60)  # the model that is back is not taken back itself
        await platform.publish(later, alarm)
        async with asyncio.timeout(40):
            while [e.id for e in await platform.events(ModelPromoted)].count(back.id) < 2:
                await asyncio.sleep(0.05)
        again = await shelf.package(models.good, B, await shelf.dataset(models.unseen(300)))
        await platform.publish(again)
        refused = await platform.wait_for(ModelRejected, after(again), timeout=40)
    assert (back.data.kind, back.data.version, back.data.withdrawn) == ("rollback", A, B)
    assert back.data.reason.startswith("withdrawn: fails 40.0% of 150 rows")
    assert "withdrawn" in [r.code for r in refused.data.reasons]
    assert len(await platform.store.list(promotions_prefix(shelf.name))) == 3


LIMITS = Limits(rows=200, seconds=10.0, errors=0.01, slowdown=3.0, distance=0.3, step=1.25)
FINE = Counts(1_000, 2, {"stream": {30: 100}}, {"yes": 500, "no": 500})


@pytest.mark.parametrize(
    ("counts", "seconds", "action", "code"),
    [
        (Counts(10, 10), 99.0, "wait", ""),
        (Counts(199, 0, {"stream": {30: 20}}, {"yes": 100, "no": 99}), 99.0, "wait", ""),
        (Counts(200, 0, {"stream": {30: 20}}, {"yes": 100, "no": 100}), 9.0, "wait", ""),
        (Counts(200, 2, {"stream": {33: 20}}, {"yes": 100, "no": 98}), 10.0, "go", ""),
        (Counts(200, 4, {"stream": {30: 20}}, {"yes": 98, "no": 98}), 10.0, "stop", "rollout_errors"),
        (Counts(100, 3, {"stream": {30: 20}}, {"yes": 49, "no": 48}), 1.0, "wait", ""),
        (Counts(100, 20, {"stream": {30: 20}}, {"yes": 40, "no": 40}), 1.0, "stop", "rollout_errors"),
        (Counts(100, 0, {"stream": {40: 20}}, {"yes": 50, "no": 50}), 1.0, "stop", "rollout_latency"),
        (Counts(100, 0, {"stream": {40: 9}}, {"yes": 50, "no": 50}), 1.0, "wait", ""),
        (Counts(100, 0, {"stream": {30: 20}}, {"yes": 90, "no": 10}), 1.0, "wait", ""),
        (Counts(100, 0, {"stream": {30: 20}}, {"yes": 100}), 1.0, "stop", "rollout_distance"),
        (Counts(200, 0, {"stream": {30: 20}}, {"yes": 200}), 10.0, "stop", "rollout_distance"),
        (Counts(200, 0, {"stream": {30: 20}}, {"yes": 130, "no": 70}), 10.0, "go", ""),
    ],
)
def test_what_a_stage_leads_to(counts: Counts, seconds: float, action: str, code: str) -> None:
    verdict = rollout.judge(FINE, counts, LIMITS, seconds)
    assert (verdict.action, verdict.code) == (action, code), verdict.reason


def test_short_calls_may_be_several_times_longer() -> None:
    champion = Counts(100, 0, {"stream": {20: 50}}, {"yes": 100})  # 87 µs
    assert rollout.judge(champion, Counts(100, 0, {"stream": {28: 50}}, {"yes": 100}), LIMITS, 1.0).action == "wait"
    longer = Counts(100, 0, {"stream": {32: 50}}, {"yes": 100})
    assert rollout.judge(champion, longer, LIMITS, 1.0).code == "rollout_latency"


def test_calls_are_compared_with_calls_of_their_own_route() -> None:
    """Equal models, of which the one answers mostly over HTTP, the other mostly in the stream."""
    batch, request = 45, 20  # 20 ms, 78 µs
    champion = Counts(1_000, 0, {"stream": {batch: 20}, "http": {request: 900}}, {"yes": 1_000})
    challenger = Counts(100, 0, {"stream": {batch: 60}, "http": {request: 12}}, {"yes": 100})
    assert rollout.judge(champion, challenger, LIMITS, 1.0).action == "wait"
    first, second = rollout.paces(champion, challenger, LIMITS.step)
    assert (first.route, first.calls, second.route, second.calls) == ("stream", 20, "http", 12)
    assert first.milliseconds == first.champion_milliseconds
    nowhere_else = Counts(100, 0, {"stream": {batch: 60}}, {"yes": 100})
    http_alone = Counts(1_000, 0, {"http": {request: 900}}, {"yes": 1_000})
    assert rollout.judge(http_alone, nowhere_else, LIMITS, 1.0).action == "wait"
    slower = Counts(100, 0, {"stream": {batch: 60}, "http": {40: 12}}, {"yes": 100})
    verdict = rollout.judge(champion, slower, LIMITS, 1.0)
    assert (verdict.action, verdict.code) == ("stop", "rollout_latency")
    assert "a call (http) takes" in verdict.reason


def test_counts_that_name_no_route_are_compared_with_their_like() -> None:
    old, new = {"30": 50}, {"routes": {"stream": {"30": 50}}, "calls": {"30": 50}}
    seen = [counts_of(Observation(version=A, rows=50, **said)) for said in ({"calls": old}, new)]
    assert [list(counts.calls) for counts in seen] == [[""], ["stream"]]
    assert rollout.paces(seen[0], seen[1], LIMITS.step) == []
    assert (seen[0] + seen[1]).calls == {"": {30: 50}, "stream": {30: 50}}


def test_the_noise_of_the_distance_is_what_equal_models_show() -> None:
    found = rollout.distance({"a": 520, "b": 480}, {"a": 490, "b": 510})
    assert found is not None
    value, noise = found
    assert value == pytest.approx(0.03) and 0.01 < noise < 0.03
    assert rollout.distance({"a": 1}, {}) is None


def test_shares_must_rise() -> None:
    assert RolloutPolicy(shadow=True, canary=(0.1, 0.5)).stages == (("shadow", 0.0), ("canary", 0.1), ("canary", 0.5))
    assert RolloutPolicy().stages == ()
    for wrong in ((0.5, 0.1), (0.0,), (1.0,), (0.1, 0.1)):
        with pytest.raises(ValueError, match="rise"):
            RolloutPolicy(canary=wrong)
