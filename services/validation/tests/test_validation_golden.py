"""The golden set and the anchor: what slow poisoning cannot move, and what a real change does."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill_contracts.artifacts import anchor_key, golden_key
from tidemill_contracts.dataset import PreparedDataset
from tidemill_contracts.events import (
    AnchorRequested,
    DatasetPrepared,
    EventDeadLettered,
    ModelAnchored,
    ModelApproved,
    ModelPromoted,
    ModelRejected,
    RolloutChanged,
    RolloutObserved,
)
from tidemill_contracts.promotion import Anchor, ApprovedModel, RequestedAnchor, ValidationReport
from tidemill_contracts.rollout import Observation, ObservedRollout, RolloutPolicy
from tidemill_shared.child import Child
from tidemill_shared.errors import ChildDied, Poison
from tidemill_shared.seal import PromotionCheck
from tidemill_shared.testing.platform import Platform, after
from tidemill_validation.app import build
from tidemill_validation.domain import golden
from tidemill_validation.domain.answers import Answers
from tidemill_validation.domain.bootstrap import Difference
from tidemill_validation.job import Guard, Job
from tidemill_validation.jobs import Jobs
from tidemill_validation.judging import judge
from tidemill_validation.settings import ValidationGroup, ValidationSettings
from tidemill_validation.work import PRELOAD, freeze

START = datetime(2020, 1, 1, tzinfo=UTC)
A, B, C = "a" * 12, "b" * 12, "c" * 12


def rows(models: Any, n: int, *, wrong: float = 0.0, seed: int = 0, first: int = 0) -> pa.Table:
    """Rows in whose right half the share ``wrong`` of the labels is turned round."""
    table = models.unseen(n, seed=seed, first=first)
    labels = np.array(table["outcome"].to_pylist(), object)
    flip = (table["x"].to_numpy() > 0) & (np.random.default_rng(seed + 1).uniform(size=n) < wrong)
    labels[flip] = np.where(labels[flip] == "yes", "no", "yes")
    return table.set_column(table.column_names.index("outcome"), "outcome", pa.array(labels.tolist()))


def answers(right: float, n: int, seed: int) -> golden.Sample:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    labels = np.where(rng.uniform(size=n) < right, y, 1 - y)
    return golden.Sample(y, Answers(labels, np.eye(2)[labels]))


def test_that_nothing_has_changed_must_be_shown() -> None:
    sound, same, worse, few = (
        answers(0.9, 2_000, 0),
        answers(0.9, 2_000, 1),
        answers(0.8, 2_000, 2),
        answers(0.9, 30, 3),
    )
    assert golden.as_before("accuracy", 1, sound, same, 0.95, 0)
    assert golden.as_before("accuracy", 1, worse, sound, 0.95, 0)
    assert not golden.as_before("accuracy", 1, sound, worse, 0.95, 0)
    assert not golden.as_before("accuracy", 1, sound, few, 0.95, 0)
    assert golden.as_before("brier", 1, sound, same, 0.8, 0)
    assert not golden.as_before("brier", 1, sound, worse, 0.8, 0)


@pytest.mark.parametrize(
    ("left", "changed", "passed"), [(False, False, False), (True, False, True), (False, True, True)]
)
def test_the_set_binds_unless_the_world_has_changed(left: bool, changed: bool, passed: bool) -> None:
    worse = Difference(0.9, 0.8, -0.1, -0.15, -0.05)
    found = golden.finding(400, worse, 0.01, left=left, changed=changed)
    assert found.passed == passed and (passed or found.code == "worse_than_anchor")
    equal = Difference(0.9, 0.89, -0.01, -0.03, 0.01)
    assert golden.finding(400, equal, 0.01, left=False, changed=False).passed


@pytest.fixture
def guarded(job: Callable[..., Job], models: Any, tmp_path: Path) -> Callable[..., Job]:
    """A judgement on ``newest`` rows with a golden set of sound ones, whose anchor and champion is the good model."""

    def made(challenger: bytes, newest: pa.Table, *, since: Any = None, champion: bytes = models.good) -> Job:
        frozen, recent = tmp_path / "golden.parquet", tmp_path / "recent.parquet"
        pq.write_table(rows(models, 400, seed=9), frozen)
        pq.write_table(newest, recent)
        guard = Guard(models.candidate(models.good), frozen, since, (recent,))
        return job(challenger, champion=champion, rows=newest, guard=guard, metric="accuracy")

    return made


def test_what_wins_on_poisoned_rows_and_forgot_what_was_right_is_held(guarded: Any, models: Any) -> None:
    """Always ``no`` wins where 90 % of the right half are turned round."""
    judged = judge(guarded(models.logistic(0.0, 0.0, bias=-4.0), rows(models, 600, wrong=0.9, first=1_000)))
    failed = [c.code for c in judged.checks if not c.passed]
    assert failed == ["worse_than_anchor"] and judged.passed and not judged.promote
    assert judged.compared and judged.compared.low > 0


def test_the_same_answer_to_an_alarm_passes_where_the_champion_has_fallen(guarded: Any, models: Any) -> None:
    newest = rows(models, 600, wrong=0.9, first=1_000)
    since = newest["tidemill_time"][0].as_py()
    assert judge(guarded(models.logistic(0.0, 0.0, bias=-4.0), newest, since=since)).promote
    sound = rows(models, 600, first=1_000)
    held = judge(guarded(models.poor, sound, since=since))
    assert "worse_than_anchor" in [c.code for c in held.checks if not c.passed]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_champion_that_cannot_be_asked_does_not_hold_the_answer_to_an_alarm(
    guarded: Any, models: Any, damaged: bool
) -> None:
    """None at all where its package cannot be read; a damaged one where its bytes do not run."""
    newest = rows(models, 600, wrong=0.9, first=1_000)
    champion = models.candidate(b"no model") if damaged else None
    made = replace(guarded(models.logistic(0.0, 0.0, bias=-4.0), newest), champion=champion)
    assert [c.code for c in judge(made).checks if not c.passed] == ["worse_than_anchor"]
    since = newest["tidemill_time"][0].as_py()
    assert judge(replace(made, guard=replace(made.guard, since=since))).promote


def test_a_set_whose_world_the_champion_has_left_does_not_bind(guarded: Any, models: Any) -> None:
    newest = rows(models, 600, wrong=0.9, first=1_000)
    judged = judge(guarded(models.logistic(0.0, 0.0, bias=-4.0), newest, champion=models.wrong))
    assert judged.promote and any("left the world" in c.message for c in judged.checks)


async def test_a_golden_set_that_cannot_be_read_protects_nobody_and_the_log_says_so(
    guarded: Any, models: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = guarded(models.logistic(0.0, 0.0, bias=-4.0), rows(models, 600, wrong=0.9, first=1_000))
    made.guard.golden.write_bytes(b"no parquet")
    service: Any = SimpleNamespace(store=None, pipelines=None)
    nothing: Any = None
    child = Child(PRELOAD, service="validation")
    try:
        jobs = Jobs(service, nothing, nothing, child, ValidationGroup())
        judged = await jobs.judged(replace(made, pipeline="flow", version=A), None)
    finally:
        await child.stop()
    assert judged.promote and any("cannot be answered" in c.message for c in judged.checks)
    (told,) = [r for r in caplog.records if r.getMessage() == "the golden set does not bind"]
    assert (told.__dict__["pipeline"], told.__dict__["version"]) == ("flow", A)


@pytest.mark.parametrize("since", [None, START])
def test_a_challenger_without_an_answer_to_a_golden_row_is_refused(guarded: Any, models: Any, since: Any) -> None:
    """The column ``z`` is missing in a row of a kind that no longer comes; the anchor does not need it."""
    made = guarded(models.logistic(0.0, 0.0, bias=-4.0), rows(models, 600, wrong=0.9, first=1_000), since=since)
    frozen = pq.read_table(made.guard.golden)
    z = pa.array([None, *frozen["z"].to_pylist()[1:]], pa.float64())
    pq.write_table(frozen.set_column(frozen.column_names.index("z"), "z", z), made.guard.golden)
    anchor = models.candidate(models.logistic(4.0), numeric=("x",))
    judged = judge(replace(made, champion=anchor, guard=replace(made.guard, anchor=anchor)))
    assert [c.code for c in judged.checks if not c.passed] == ["no_golden_answers"]
    assert not judged.promote and not judged.passed


async def prepared(shelf: Any, table: pa.Table, version: str) -> DatasetPrepared:
    manifest = await shelf.dataset(table, version)
    data = {"pipeline": shelf.name, "version": version, "sequence": 2, "manifest": manifest, "spec": manifest}
    data |= {"rows": {"test": len(table)}, "new_rows": len(table), "quarantined": 0, "origin": "feedback"}
    return DatasetPrepared.root(PreparedDataset.model_validate(data), subject=shelf.name, source="urn:test")


async def test_slow_poisoning_is_held_for_a_person_whose_yes_is_the_new_anchor(
    platform: Platform, shelf: Any, models: Any
) -> None:
    sound = await shelf.dataset(rows(models, 400))
    poisoned = await shelf.dataset(models.unseen(600, flipped=True, first=1_000), "1" * 12)
    first = await shelf.package(models.good, A, sound)
    bad = await shelf.package(models.wrong, B, poisoned)
    async with platform.running(build(platform.settings(ValidationSettings))):
        await platform.publish(first)
        anchored = await platform.wait_for(ModelAnchored, after(first), timeout=60)
        await platform.publish(bad)
        refused = await platform.wait_for(ModelRejected, after(bad), timeout=60)
        yes = yes_to(shelf, B)
        await platform.publish(yes)
        promoted = await platform.wait_for(ModelPromoted, after(yes), timeout=60)
        moved = await platform.wait_for(ModelAnchored, after(yes), timeout=60)
    assert (anchored.data.version, anchored.data.sequence, anchored.data.rows) == (A, 1, 400)
    assert anchored.data.golden.key == golden_key(shelf.name, anchored.data.golden.sha256)
    assert [r.code for r in refused.data.reasons] == ["worse_than_anchor"]
    report = await platform.store.document(refused.data.report, ValidationReport)
    assert report.passed and not report.promote
    assert promoted.data.version == B
    assert (moved.data.version, moved.data.sequence, moved.data.rows) == (B, 2, 600)


def yes_to(shelf: Any, version: str) -> ModelApproved:
    return ModelApproved.root(ApprovedModel(version=version, by="ada"), subject=shelf.name, source="urn:test")


async def held_back(platform: Platform, shelf: Any, models: Any) -> None:
    """A is champion and anchor; B, which learned from poisoned rows, waits for a person."""
    first = await shelf.package(models.good, A, await shelf.dataset(rows(models, 400)))
    poisoned = await shelf.dataset(models.unseen(600, flipped=True, first=1_000), "1" * 12)
    bad = await shelf.package(models.wrong, B, poisoned)
    await platform.publish(first)
    await platform.wait_for(ModelAnchored, after(first), timeout=60)
    await platform.publish(bad)
    await platform.wait_for(ModelRejected, after(bad), timeout=60)


@pytest.mark.parametrize("deaths", [1, 2])
async def test_an_anchor_whose_making_was_killed_is_made_all_the_same(
    platform: Platform, shelf: Any, models: Any, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    """At the next attempt, or with the next rows; the promotion does not wait for it."""
    run, killed = Child.run, []

    async def dying(self: Child, work: Any, *arguments: Any, **settings: Any) -> Any:
        if work is freeze and len(killed) < deaths:
            killed.append(work)
            raise ChildDied("killed for memory")
        return await run(self, work, *arguments, **settings)

    yes = yes_to(shelf, B)
    late = await prepared(shelf, models.unseen(30, flipped=True, seed=1, first=2_000), "2" * 12)
    await platform.declare(shelf.spec)
    async with platform.running(build(platform.settings(ValidationSettings))):
        await held_back(platform, shelf, models)
        monkeypatch.setattr(Child, "run", dying)
        await platform.publish(yes)
        await platform.wait_for(ModelPromoted, after(yes), timeout=60)
        if deaths == 2:
            await platform.publish(late)
        moved = await platform.wait_for(ModelAnchored, after(yes), timeout=60)
    assert len(killed) == deaths
    assert (moved.data.version, moved.data.sequence, moved.data.rows) == (B, 2, 600)
    assert moved.data.reason == "approved by ada"


async def test_a_held_model_that_is_rolled_out_is_the_anchor_once_it_is_champion(
    platform: Platform, shelf: Any, models: Any
) -> None:
    await platform.declare(shelf.spec.model_copy(update={"rollout": RolloutPolicy(canary=(0.5,), bake_rows=100)}))
    yes = yes_to(shelf, B)
    done = Observation(version=B, rows=100, calls={"30": 50}, answers={"yes": 50, "no": 50})
    champion = done.model_copy(update={"version": A})
    async with platform.running(build(platform.settings(ValidationSettings))):
        await held_back(platform, shelf, models)
        await platform.publish(yes)
        begun = await platform.wait_for(RolloutChanged, after(yes), timeout=60)
        counts = ObservedRollout(trial=begun.data.sequence, run="one", champion=champion, challenger=done)
        end = RolloutObserved.root(counts, subject=f"{shelf.name}/{B}", source="urn:test")
        await platform.publish(end)
        promoted = await platform.wait_for(ModelPromoted, after(end), timeout=60)
        moved = await platform.wait_for(ModelAnchored, after(end), timeout=60)
        await platform.publish(end)  # once more, as after a crash: the same event, and no other anchor
        async with asyncio.timeout(60):
            while [e.id for e in await platform.events(ModelAnchored)].count(moved.id) < 2:
                await asyncio.sleep(0.05)
    assert promoted.data.version == B
    assert (moved.data.version, moved.data.sequence, moved.data.rows) == (B, 2, 600)


async def test_an_answer_to_an_alarm_that_keeps_its_place_is_the_next_anchor(
    platform: Platform, shelf: Any, models: Any
) -> None:
    shelf.promotion = shelf.promotion.model_copy(update={"bake_rows": 200})
    changed = models.unseen(500, flipped=True, first=1_000)
    since = changed["tidemill_time"][0].as_py()
    first = await shelf.package(models.good, A, await shelf.dataset(rows(models, 400)))
    second = await shelf.package(models.wrong, B, await shelf.dataset(changed, "1" * 12), since=since)
    few = await prepared(shelf, models.unseen(150, flipped=True, seed=1, first=1_500), "2" * 12)
    more = await prepared(shelf, models.unseen(300, flipped=True, seed=1, first=1_500), "3" * 12)
    await platform.declare(shelf.spec)
    async with platform.running(build(platform.settings(ValidationSettings))):
        for event in (first, second):
            await platform.publish(event)
            await platform.wait_for(ModelPromoted, after(event), timeout=60)
        await platform.publish(few, more)
        moved = await platform.wait_for(ModelAnchored, lambda e: e.data.version == B, timeout=60)
        ask = RequestedAnchor(version=B, anchor=2, by="ada", reason="as it is now")
        asked = AnchorRequested.root(ask, subject=shelf.name, source="urn:test")
        await platform.publish(asked)
        by_person = await platform.wait_for(ModelAnchored, after(asked), timeout=60)
    assert moved.causationid == more.id and (moved.data.sequence, moved.data.rows) == (2, 300)
    assert by_person.data.reason == "anchored by ada: as it is now"


async def test_a_request_is_carried_out_once_and_only_before_what_the_person_saw(
    platform: Platform, shelf: Any, models: Any
) -> None:
    """Signed bytes stay signed: whoever may write to the stream can send them again when another model is champion."""
    first = await shelf.package(models.good, A, await shelf.dataset(rows(models, 400)))
    wanted, again, other, late, old = (
        AnchorRequested.root(ask, subject=shelf.name, source="urn:test")
        for ask in (
            RequestedAnchor(version=A, anchor=1, by="ada"),
            RequestedAnchor(version=A, anchor=2, by="ada"),
            RequestedAnchor(version=B, anchor=3, by="ada"),
            RequestedAnchor(version=A, anchor=2, by="ada"),
            RequestedAnchor(by="ada"),
        )
    )
    async with platform.running(build(platform.settings(ValidationSettings))):
        for event in (first, wanted, again):
            await platform.publish(event)
            await platform.wait_for(ModelAnchored, after(event), timeout=60)
        await platform.publish(wanted, other, late, old)
        for event, why in (
            (other, "is aaaaaaaaaaaa by now"),
            (late, "there are 3"),
            (old, "does not say which champion"),
        ):
            letter = await platform.wait_for(EventDeadLettered, lambda e, event=event: e.data.event_id == event.id)
            assert why in letter.data.message
        async with asyncio.timeout(60):  # what came once more is told once more
            while len(told := [e for e in await platform.events(ModelAnchored) if e.causationid == wanted.id]) < 2:
                await asyncio.sleep(0.05)
    assert [e.data.sequence for e in told] == [2, 2]
    assert not await platform.store.exists(anchor_key(shelf.name, 4))


async def test_an_anchor_nobody_sealed_is_none(platform: Platform, shelf: Any, models: Any) -> None:
    first = await shelf.package(models.good, A, await shelf.dataset(rows(models, 400)))
    service = build(platform.settings(ValidationSettings))
    nobody = AnchorRequested.root(RequestedAnchor(version=A, anchor=0, by="eve"), subject="other", source="urn:test")
    async with platform.running(service):
        await platform.publish(first, nobody)
        await platform.wait_for(ModelAnchored, after(first), timeout=60)
        letter = await platform.wait_for(EventDeadLettered, lambda e: e.data.event_id == nobody.id, timeout=60)
    assert "nothing was anchored" in letter.data.message
    data = await platform.store.read(anchor_key(shelf.name, 1))
    assert data is not None
    forged = Anchor.from_json(data).model_copy(update={"version": C})
    check = PromotionCheck.of(platform.settings(ValidationSettings).keys)
    with pytest.raises(Poison, match="not signed"):
        check.opened_anchor(forged.to_json(), shelf.name, 1)
