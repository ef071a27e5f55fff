"""The whole service on a real Redis and a real object store."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
from pydantic import TypeAdapter

from tidemill_contracts.artifacts import (
    ArtifactRef,
    dataset_key,
    dataset_log_key,
    model_key,
    promotion_key,
    raw_key,
    state_copy_key,
)
from tidemill_contracts.dataset import Column, DatasetManifest, Part, PreparedDataset, Reason
from tidemill_contracts.document import content_version
from tidemill_contracts.drift import DegradedPerformance, DetectedDrift, RecoveredPerformance, Statistic, Window
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import (
    DatasetPrepared,
    DriftDetected,
    ModelRejected,
    ModelTrained,
    PerformanceDegraded,
    PerformanceRecovered,
    RetrainSuppressed,
    TrainingFailed,
    TrainingGranted,
    TrainingProgressed,
    TrainingRequested,
)
from tidemill_contracts.model import Evaluation, Explanation, ModelManifest, RequestedTraining, RowSelection
from tidemill_contracts.pipeline import PipelineSpec, RetrainPolicy, SearchPolicy
from tidemill_contracts.promotion import Promotion, RejectedModel
from tidemill_contracts.streams import stream_key
from tidemill_shared.child import Child
from tidemill_shared.service import Service
from tidemill_shared.settings import DeliverySettings
from tidemill_shared.state_copies import StateCopies
from tidemill_shared.testing.platform import Platform
from tidemill_training.app import build
from tidemill_training.domain.state import Run, State, Trigger
from tidemill_training.governing import Governing
from tidemill_training.handlers import Triggers
from tidemill_training.settings import TrainingGroup, TrainingSettings
from tidemill_training.work import PRELOAD

START = datetime(2020, 1, 1, tzinfo=UTC)
NOWHERE = ArtifactRef(key="nowhere", sha256="0" * 64, size=0)


def spec(name: str = "demo", **retrain: Any) -> PipelineSpec:
    policy = {"min_rows": 100, "cool_down_seconds": 0.0} | retrain
    return PipelineSpec(
        name=name,
        task="classification",
        target="won",
        primary="f1",
        retrain=RetrainPolicy(**policy),
        search=SearchPolicy(families=("linear",), trials=1, seconds=20),
    )


class Data:
    """Writes dataset versions as ingestion does: parts that are kept, a manifest, an entry in the log."""

    def __init__(self, platform: Platform, declared: Any) -> None:
        self.platform = platform
        self.declared = declared
        self.parts: list[Part] = []
        self.rows = 0
        self.sequence = 0

    async def add(
        self, rows: int = 200, *, day: int = 0, origin: str = "upload", one_class: bool = False
    ) -> DatasetPrepared:
        rng = np.random.default_rng(self.sequence)
        name = self.declared.spec.name
        self.sequence += 1
        times = [START + timedelta(days=day, seconds=i) for i in range(rows)]
        x, c = rng.normal(size=rows), rng.choice(["a", "b", ""], rows)
        won = np.where(x + (c == "a") + rng.normal(scale=0.3, size=rows) > 0.5, "yes", "no")
        if one_class:
            won[:] = "no"
        table = pa.table(
            {
                "x": pa.array([None if i % 17 == 0 else float(v) for i, v in enumerate(x)], pa.float64()),
                "c": pa.array([v or None for v in c], pa.string()),
                "won": won.tolist(),
                "tidemill_row": pa.array(range(self.rows, self.rows + rows), pa.uint64()),
                "tidemill_time": pa.array(times, pa.timestamp("us", "UTC")),
                "tidemill_ordinal": pa.array(range(self.rows, self.rows + rows), pa.int64()),
            }
        )
        split_of = np.resize(["train"] * 7 + ["validation"] * 2 + ["test"], rows)
        for split in ("train", "validation", "test"):
            await self._part(name, split, table.filter(pa.array(split_of == split)), origin)
        self.rows += rows
        return await self._publish(name, rows, origin)

    async def _part(self, name: str, split: Any, table: pa.Table, origin: Any) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        key = dataset_key(name, f"{self.sequence:012x}", f"{split}.parquet")
        file = await self.platform.store.put(key, sink.getvalue().to_pybytes())
        ordinals, times = table["tidemill_ordinal"].to_pylist(), table["tidemill_time"].to_pylist()
        if split == "test":
            # Training must never open it: that it is missing does not matter here.
            await self.platform.store.delete(key)
        self.parts.append(
            Part(
                split=split,
                file=file,
                rows=table.num_rows,
                first_ordinal=ordinals[0],
                last_ordinal=ordinals[-1],
                time_min=min(times),
                time_max=max(times),
                origin=origin,
            )
        )

    async def _publish(self, name: str, new_rows: int, origin: Any) -> DatasetPrepared:
        count: dict[Any, int] = {}
        for part in self.parts:
            count[part.split] = count.get(part.split, 0) + part.rows
        manifest = DatasetManifest(
            pipeline=name,
            version=content_version(name, str(self.sequence)),
            sequence=self.sequence,
            task="classification",
            columns=(
                Column(name="c", kind="categorical", role="feature"),
                Column(name="x", kind="numeric", role="feature"),
                Column(name="won", kind="categorical", role="target"),
            ),
            classes=("no", "yes"),
            parts=tuple(self.parts),
            next_ordinal=self.rows,
            rows=count,
            new_rows=new_rows,
            source=ArtifactRef(key=raw_key(name, "0" * 64, ".csv"), sha256="0" * 64, size=0),
            spec=self.declared.ref,
            causes=("event",),
            code_version="test",
        )
        ref = await self.platform.store.put_document(dataset_key(name, manifest.version, "manifest.json"), manifest)
        prepared = PreparedDataset(
            pipeline=name,
            version=manifest.version,
            sequence=self.sequence,
            manifest=ref,
            spec=self.declared.ref,
            rows=count,
            new_rows=new_rows,
            quarantined=0,
            origin=origin,
        )
        await self.platform.store.put_document(dataset_log_key(name, self.sequence), prepared)
        event = DatasetPrepared.root(prepared, subject=f"{name}/{manifest.version}", source="urn:test")
        await self.platform.publish(event)
        return event


async def promote(platform: Platform, name: str, version: str, sequence: int = 1) -> None:
    entry = Promotion(
        pipeline=name,
        sequence=sequence,
        version=version,
        manifest=NOWHERE,
        attestation=NOWHERE,
        report=NOWHERE,
        reason="test",
        cause="test",
        promoted_at=datetime.now(UTC),
    )
    await platform.store.put_document(promotion_key(name, sequence), entry)


def drift(name: str, model: str, *, day: int, kind: Any = "concept") -> DriftDetected:
    evidence = Statistic(
        name="error", test="adwin", statistic=1, threshold=0.5, reference_rows=500, current_rows=100, verdict="drift"
    )
    found = DetectedDrift(
        kind=kind,
        model_version=model,
        noticed_at=START + timedelta(days=day),
        noticed_row=1,
        window=Window(rows=100),
        evidence=(evidence,),
    )
    return DriftDetected.root(found, subject=name, source="urn:test")


def requested(name: str, **asked: Any) -> TrainingRequested:
    return TrainingRequested.root(RequestedTraining(**asked), subject=name, source="urn:test")


def settings(platform: Platform, **training: Any) -> TrainingSettings:
    group = TrainingGroup(jobs=1, tick_seconds=0.1, **training)
    # Reclaimed soon, though not so soon that a busy machine loses leases.
    delivery = DeliverySettings(lease_seconds=3.0, block_seconds=0.1)
    return platform.settings(TrainingSettings, training=group, delivery=delivery)


@pytest.fixture
async def data(platform: Platform) -> Data:
    return Data(platform, await platform.declare(spec()))


def refused(reason: str, queued: bool | None = None) -> Callable[[RetrainSuppressed], bool]:
    return lambda e: e.data.reason == reason and queued in (None, e.data.queued)


async def test_the_first_dataset_becomes_a_model(platform: Platform, data: Data) -> None:
    arrived = await data.add()
    async with platform.running(build(settings(platform))):
        trained = await platform.wait_for(ModelTrained)
    assert trained.data.trigger == "first_data"
    assert trained.correlationid == arrived.id
    manifest = await platform.store.document(trained.data.manifest, ModelManifest)
    assert [f.name for f in manifest.features] == ["x", "c"]
    assert manifest.categories == {"c": ("a", "b")}
    assert (manifest.positive, manifest.classes, manifest.threshold) == ("yes", ("no", "yes"), None)
    assert manifest.rows == {"train": 180, "validation": 0}  # too few to judge by
    assert arrived.id in manifest.causes
    evaluation = await platform.store.document(manifest.files["evaluation.json"], Evaluation)
    assert evaluation.rows == 180
    assert evaluation.metrics["f1"] > 0.7 > evaluation.baseline["f1"]
    assert evaluation.metrics["roc_auc"] > 0.9
    assert sum(map(sum, evaluation.confusion)) == 180
    explanation = await platform.store.document(manifest.files["explanation.json"], Explanation)
    assert explanation.importances[0].feature == "x"
    assert 0 < explanation.importances[0].error < explanation.importances[0].mean
    stored = await platform.store.get(manifest.files["model.skops"])
    model = skops.io.loads(stored, trusted=["numpy.dtype"])
    assert model.classes_.tolist() == [0, 1]
    progress = await platform.events(TrainingProgressed)
    assert progress[0].data.stage == "started"
    assert {p.data.run for p in progress} == {trained.causationid}


async def test_a_drift_waits_for_its_rows_and_trains_on_them_alone(platform: Platform, data: Data) -> None:
    async with platform.running(build(settings(platform))):
        await data.add()
        first = await platform.wait_for(ModelTrained)
        await promote(platform, "demo", first.data.version)
        await platform.publish(drift("demo", first.data.version, day=10))
        await platform.wait_for(RetrainSuppressed, refused("waiting_for_rows", True))
        await data.add(60, day=10, origin="feedback")
        assert len(await platform.events(ModelTrained)) == 1
        await data.add(60, day=11, origin="feedback")
        second = await platform.wait_for(ModelTrained, lambda e: e.data.trigger == "drift")
    manifest = await platform.store.document(second.data.manifest, ModelManifest)
    assert manifest.selection.since == START + timedelta(days=10)
    assert manifest.rows == {"train": 108, "validation": 0}


async def test_after_a_change_that_changed_nothing_older_rows_are_learned_from_too(platform: Platform) -> None:
    data = Data(platform, await platform.declare(spec(rows="evidence")))
    async with platform.running(build(settings(platform, progress_seconds=0))):
        await data.add(1_500)
        first = await platform.wait_for(ModelTrained)
        await promote(platform, "demo", first.data.version)
        await data.add(120, day=10, origin="feedback")
        await platform.publish(drift("demo", first.data.version, day=10))
        second = await platform.wait_for(ModelTrained, lambda e: e.data.trigger == "drift")
        await platform.publish(requested("demo", rows=RowSelection(since=START + timedelta(days=9))))
        asked = await platform.wait_for(ModelTrained, lambda e: e.data.trigger == "operator")
    manifest = await platform.store.document(second.data.manifest, ModelManifest)
    choice = manifest.row_choice
    # Whatever was taken, what was compared is told, and the selection stays what describes the model's world.
    assert choice is not None and choice.judged_rows == 108
    assert [(t.rows, t.older) for t in choice.tried] == [
        ("since", 0),
        ("newest", 108),
        ("all", 1_050),
        ("weighted", 1_050),
    ]
    assert {t.rows: t.score for t in choice.tried}[choice.taken] == pytest.approx(manifest.metrics["f1"])
    assert manifest.selection.since == START + timedelta(days=10)
    assert manifest.rows == {"train": 108, "validation": 0}
    told = [e.data for e in await platform.events(TrainingProgressed) if e.data.run == second.causationid]
    assert choice.taken in {t.rows for t in told if t.stage == "evaluating"}
    named = await platform.store.document(asked.data.manifest, ModelManifest)
    assert named.row_choice is None  # a person who names rows means them


async def test_what_comes_while_one_trains_is_merged_and_served_afterwards(platform: Platform, data: Data) -> None:
    async with platform.running(build(settings(platform))):
        await data.add()
        await platform.wait_for(TrainingGranted)
        for reason in ("one", "two"):
            await platform.publish(requested("demo", reason=reason))
        await platform.wait_for(RetrainSuppressed, refused("in_flight", True))
        await platform.wait_for(RetrainSuppressed, refused("coalesced", True))
        second = await platform.wait_for(ModelTrained, lambda e: e.data.trigger == "operator")
    granted = await platform.events(TrainingGranted)
    assert [g.data.trigger for g in granted] == ["first_data", "operator"]
    assert granted[1].data.reason == "two"
    assert len(granted[1].data.causes) == 2
    assert second.causationid == granted[1].id


@pytest.mark.parametrize(
    ("policy", "kind", "model", "reason"),
    [
        ({"mode": "observe"}, "concept", "champion", "mode"),
        ({"mode": "suggest"}, "concept", "champion", "suggested"),
        ({}, "data", "champion", "policy"),
        ({}, "concept", "b" * 12, "stale"),
        ({"cool_down_seconds": 3600}, "concept", "champion", "cool_down"),
    ],
)
async def test_refusals_say_why(platform: Platform, policy: dict, kind: str, model: str, reason: str) -> None:
    data = Data(platform, await platform.declare(spec(**policy)))
    async with platform.running(build(settings(platform))):
        await data.add()
        first = await platform.wait_for(ModelTrained)
        champion = first.data.version
        await promote(platform, "demo", champion)
        alarm = drift("demo", champion if model == "champion" else model, day=0, kind=kind)
        await platform.publish(alarm)
        answer = await platform.wait_for(RetrainSuppressed, refused(reason))
        if reason == "cool_down":
            await platform.publish(requested("demo", force=True))
            await platform.wait_for(ModelTrained, lambda e: e.data.trigger == "operator")
    assert answer.data.queued == (reason in ("cool_down", "suggested"))
    assert answer.causationid == alarm.id


async def test_a_withdrawn_champion_is_not_trained_for_once_the_score_is_back(platform: Platform, data: Data) -> None:
    good, bad = "a" * 12, "b" * 12
    window = Window(rows=100)
    fell = DegradedPerformance(
        model_version=bad,
        metric="f1",
        score=0.2,
        baseline=0.9,
        window=window,
        noticed_at=START + timedelta(days=10),
        noticed_row=1,
    )
    back = RecoveredPerformance(model_version=good, metric="f1", score=0.9, baseline=0.9, rows_to_retrain=100)
    await promote(platform, "demo", bad)
    async with platform.running(build(settings(platform))):
        await data.add()
        await platform.publish(PerformanceDegraded.root(fell, subject="demo", source="urn:test"))
        await platform.wait_for(RetrainSuppressed, refused("waiting_for_rows", True))
        await promote(platform, "demo", good, sequence=2)
        await platform.publish(PerformanceRecovered.root(back, subject="demo", source="urn:test"))
        answer = await platform.wait_for(RetrainSuppressed, refused("resolved", False))
    assert answer.data.trigger == "performance"
    assert await platform.events(TrainingGranted) == []


async def test_rows_of_one_class_fail_and_more_of_them_are_waited_for(platform: Platform, data: Data) -> None:
    async with platform.running(build(settings(platform))):
        await data.add()
        first = await platform.wait_for(ModelTrained)
        await promote(platform, "demo", first.data.version)
        await platform.publish(drift("demo", first.data.version, day=10))
        await data.add(120, day=10, origin="feedback", one_class=True)
        failed = await platform.wait_for(TrainingFailed)
        assert failed.data.reasons[0].code == "one_class"
        waits = await platform.wait_for(
            RetrainSuppressed, lambda e: e.data.reason == "waiting_for_rows" and "of 240 rows" in e.data.message
        )
        assert waits.data.queued
        await data.add(200, day=11, origin="feedback")
        second = await platform.wait_for(ModelTrained, lambda e: e.data.trigger == "drift")
    assert second.data.rows["train"] > 150


async def test_a_rejected_model_does_not_end_the_answer_to_a_drift(platform: Platform, data: Data) -> None:
    async with platform.running(build(settings(platform))):
        await data.add()
        first = await platform.wait_for(ModelTrained)
        await promote(platform, "demo", first.data.version)
        await data.add(120, day=10, origin="feedback")
        await platform.publish(drift("demo", first.data.version, day=10))
        second = await platform.wait_for(ModelTrained, lambda e: e.data.trigger == "drift")
        rejected = RejectedModel(
            pipeline="demo",
            version=second.data.version,
            manifest=NOWHERE,
            report=NOWHERE,
            reasons=(Reason(code="worse", message="worse"),),
        )
        await platform.publish(ModelRejected.root(rejected, subject=f"demo/{second.data.version}", source="urn:test"))
        await data.add(200, day=11, origin="feedback")
        third = await platform.wait_for(
            ModelTrained, lambda e: e.data.rows["train"] > 150 and e.data.trigger == "drift"
        )
    assert third.data.version != second.data.version


async def test_a_service_killed_in_the_middle_is_repeated_and_makes_one_model(platform: Platform) -> None:
    long = SearchPolicy(families=("random_forest",), trials=10, seconds=30)
    data = Data(platform, await platform.declare(spec().model_copy(update={"search": long})))
    await data.add()
    command = sys.executable, "-m", "tidemill_training"
    killed = await asyncio.create_subprocess_exec(*command, env=platform.environment())
    try:
        await platform.wait_for(TrainingProgressed, lambda e: e.data.stage == "searching")
    finally:
        killed.kill()
        await killed.wait()
    assert not await platform.events(ModelTrained)
    replicas = [build(settings(platform, progress_seconds=0.1).model_copy(update={"instance": i})) for i in ("1", "2")]
    async with platform.running(replicas[0]), platform.running(replicas[1]):
        trained = await platform.wait_for(ModelTrained, timeout=60)
        stream = stream_key(platform.namespace, TrainingGranted.type_name())
        async with asyncio.timeout(60):
            while (await platform.redis.xpending(stream, "training"))["pending"]:
                await asyncio.sleep(0.02)
    assert len(await platform.events(TrainingGranted)) == 1
    assert len(await platform.events(ModelTrained)) == 1
    assert await platform.store.exists(model_key("demo", trained.data.version, "manifest.json"))


async def test_a_damaged_part_fails_the_training_and_frees_its_place(platform: Platform, data: Data) -> None:
    event = await data.add()
    manifest = await platform.store.document(event.data.manifest, DatasetManifest)
    damaged = next(p.file for p in manifest.parts if p.split == "train")
    await platform.store.put(damaged.key, b"x" * damaged.size)
    async with platform.running(build(settings(platform))):
        failed = await platform.wait_for(TrainingFailed)
        assert failed.data.reasons[0].code == "checksum"
        await data.add(day=1)
        await platform.wait_for(TrainingGranted, lambda e: e.data.dataset_version != event.data.version)


async def test_repeated_events_change_nothing(platform: Platform, data: Data) -> None:
    event = await data.add()
    ask = requested("demo")
    async with platform.running(build(settings(platform))):
        await platform.wait_for(ModelTrained)
        await platform.publish(event, ask, ask)
        asked = await platform.wait_for(ModelTrained, lambda e: e.data.trigger == "operator")
        await platform.redis.xadd(event.stream(platform.namespace), {FIELD: event.to_json()})
        await platform.publish(requested("demo", reason="last"))
        await platform.wait_for(TrainingGranted, lambda e: e.data.reason == "last")
        await platform.wait_for(ModelTrained, lambda e: e.data.trigger == "operator" and e.data != asked.data)
    assert [g.data.trigger for g in await platform.events(TrainingGranted)] == ["first_data", "operator", "operator"]
    # The same rows, seed and bytes are the same version: every event about it names the manifest that is there.
    models = {e.data.version: e.data.manifest for e in await platform.events(ModelTrained)}
    for event in await platform.events(ModelTrained):
        assert event.data.manifest == models[event.data.version]
        manifest = await platform.store.document(event.data.manifest, ModelManifest)
        for file in manifest.files.values():
            await platform.store.get(file)


async def test_two_pipelines_train_at_the_same_time_where_that_is_allowed(platform: Platform) -> None:
    for name in ("one", "two"):
        await Data(platform, await platform.declare(spec(name))).add(400)
    async with platform.running(build(settings(platform, concurrency=2))):
        for name in ("one", "two"):
            await platform.wait_for(ModelTrained, lambda e, name=name: e.pipeline == name)
    progress = [p.pipeline for p in await platform.events(TrainingProgressed)]
    assert set(progress) == {"one", "two"}


async def test_a_lost_redis_does_not_take_the_cool_down_along(platform: Platform) -> None:
    data = Data(platform, await platform.declare(spec(cool_down_seconds=3_600)))
    copy = state_copy_key(platform.namespace, "demo", "training")
    async with platform.running(build(settings(platform))):
        await data.add()
        first = await platform.wait_for(ModelTrained)
        await promote(platform, "demo", first.data.version)
        await platform.publish(drift("demo", first.data.version, day=0))
        await platform.wait_for(RetrainSuppressed, refused("cool_down", True))
        deadline = asyncio.get_running_loop().time() + 60
        while b'"told":"cool_down"' not in (await platform.store.read(copy) or b""):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.1)
    await platform.lose_redis()
    async with platform.running(build(settings(platform))):
        # What waited waits on, and the next alarm joins it.
        alarm = drift("demo", first.data.version, day=1)
        await platform.publish(alarm)
        answer = await platform.wait_for(RetrainSuppressed, refused("coalesced", True))
    assert answer.causationid == alarm.id
    assert len(await platform.events(TrainingGranted)) == 0


async def test_what_was_granted_waits_again_after_a_loss_of_redis_although_no_event_comes(platform: Platform) -> None:
    data = Data(platform, await platform.declare(spec(cool_down_seconds=3_600)))
    prepared = await data.add()
    await promote(platform, "demo", "0123456789ab")
    now = datetime.now(UTC)
    trigger = Trigger("alarm", "drift", now, about="concept", model="0123456789ab", since=START)
    running = Run(trigger.run, trigger, now, prepared.data.version)
    await copied(platform, State(running=running, finished_at=now))
    await platform.lose_redis()
    async with platform.running(build(settings(platform))):
        answer = await platform.wait_for(RetrainSuppressed, refused("cool_down", True))
    assert (answer.causationid, answer.data.trigger) == ("alarm", "drift")


async def test_the_store_is_asked_for_a_copy_once_for_each_loss_of_redis(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    read = StateCopies.read

    async def counted(copies: StateCopies, pipeline: str) -> bytes | None:
        asked.append(pipeline)
        return await read(copies, pipeline)

    monkeypatch.setattr(StateCopies, "read", counted)
    await platform.declare(spec())
    service = Service("training", settings(platform))
    governing = Governing(service, Child(PRELOAD, service="training"))
    triggers = Triggers(service, settings(platform).training, governing)
    await service.pipelines.load()
    try:
        for _ in range(2):
            asked.clear()
            for _ in range(3):
                await triggers.look()
            assert asked == ["demo"]
            await governing.change("demo", lambda s, p, c: (replace(s, uploaded_rows=1), None))
            await triggers.look()
            await platform.lose_redis()
    finally:
        await service.bus.nodes.aclose()
        service.store.close()


async def copied(platform: Platform, state: State) -> None:
    """A copy of the governor's state in the store, as a lost Redis leaves it behind."""
    key = state_copy_key(platform.namespace, "demo", "training")
    await platform.store.put(key, TypeAdapter(State).dump_json(state))
