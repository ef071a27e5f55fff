"""The service against a real Redis and a real S3: joins, kills, drift, feedback, log."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill_contracts.artifacts import package_key, promotion_key, state_copy_key
from tidemill_contracts.dataset import Histogram
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import (
    DataArrived,
    DataBroken,
    DataMended,
    DriftDetected,
    DriftEvaluated,
    DriftResolved,
    EventDeadLettered,
    LabelObserved,
    ModelPromoted,
    PerformanceMeasured,
    PerformanceRecovered,
    PredictionCompleted,
    PredictionFailed,
    PredictionRequested,
    TableCompleted,
)
from tidemill_contracts.package import PackageManifest, Reference, ReferenceColumn
from tidemill_contracts.pipeline import DriftPolicy, PipelineSpec
from tidemill_contracts.prediction import CompletedPrediction, FailedPrediction, ObservedLabel, RequestedPrediction
from tidemill_contracts.promotion import PromotedModel, Promotion
from tidemill_contracts.streams import dead_letter_key
from tidemill_contracts.table import CompletedTable
from tidemill_monitoring.app import build
from tidemill_monitoring.finished import Finished
from tidemill_monitoring.keys import Keys
from tidemill_monitoring.settings import MonitoringGroup, MonitoringSettings
from tidemill_shared.testing.platform import Platform
from tidemill_shared.testing.servers import Servers

PIPELINE = "spins"
START = datetime(1915, 4, 1, tzinfo=UTC)
EDGES = (-1.28, -0.84, -0.52, -0.25, 0.0, 0.25, 0.52, 0.84, 1.28)
OLD, NEW = "0" * 11 + "a", "0" * 11 + "b"


def spec(**drift: Any) -> PipelineSpec:
    policy = {"window_rows": 100, "min_rows": 50, "feedback_rows": 10_000, "feedback_seconds": 3_600.0} | drift
    return PipelineSpec(
        name=PIPELINE,
        task="classification",
        target="up",
        positive=True,
        primary="accuracy",
        drift=DriftPolicy(**policy),
    )


def settings(platform: Platform, **group: Any) -> MonitoringSettings:
    return platform.settings(MonitoringSettings, monitoring=MonitoringGroup(poll_seconds=0.05, **group))


async def promote(platform: Platform, version: str, sequence: int) -> ModelPromoted:
    """A package with a reference of standard normal rows, its promotion in the registry, and the event."""
    tenth = (150,) * 10
    column = ReferenceColumn(
        name="x", kind="numeric", rows=1_500, missing=0, histogram=Histogram(edges=EDGES, counts=tenth)
    )
    halves = Histogram(edges=(0.5,), counts=(750, 750))
    answers = ReferenceColumn(name="prediction", kind="numeric", rows=1_500, missing=0, histogram=halves)
    reference = Reference(
        rows=1_500,
        columns=(column,),
        prediction=answers,
        target=answers,
        metric="accuracy",
        score=0.95,
        error=0.05,
        error_rows=300,
    )
    ref = await platform.store.put_document(package_key(PIPELINE, version, "reference.json"), reference)
    manifest = PackageManifest(
        pipeline=PIPELINE,
        version=version,
        task="classification",
        family="linear",
        files={"reference.json": ref},
        model=ref,
        dataset=ref,
        dataset_version="d" * 12,
        spec=ref,
        causes=("test",),
        opset=17,
        environment={},
        environment_lock="e" * 64,
        code_version="test",
    )
    manifest_ref = await platform.store.put_document(package_key(PIPELINE, version, "manifest.json"), manifest)
    promotion = Promotion(
        pipeline=PIPELINE,
        sequence=sequence,
        version=version,
        manifest=manifest_ref,
        attestation=manifest_ref,
        report=manifest_ref,
        reason="test",
        cause="test",
        promoted_at=START,
    )
    promotion_ref = await platform.store.put_document(promotion_key(PIPELINE, sequence), promotion)
    promoted = PromotedModel(
        pipeline=PIPELINE,
        version=version,
        sequence=sequence,
        kind="promotion",
        promotion=promotion_ref,
        manifest=manifest_ref,
        attestation=manifest_ref,
        reason="test",
    )
    return ModelPromoted.root(promoted, subject=f"{PIPELINE}/{version}", source="urn:test")


def request(id_: str, x: float, minute: int) -> PredictionRequested:
    time = START + timedelta(minutes=minute)
    data = RequestedPrediction(features={"x": x})
    return PredictionRequested.root(data, subject=PIPELINE, source="urn:test", id=id_, time=time)


def completed(id_: str, up: bool, version: str = OLD) -> PredictionCompleted:
    data = CompletedPrediction(
        prediction_id=id_,
        prediction=up,
        probabilities=(0.1, 0.9) if up else (0.9, 0.1),
        classes=(False, True),
        model_version=version,
        dataset_version="d" * 12,
    )
    return PredictionCompleted.root(data, subject=PIPELINE, source="urn:test")


def label(id_: str, up: bool) -> LabelObserved:
    data = ObservedLabel(prediction_id=id_, label=up)
    return LabelObserved.root(data, subject=PIPELINE, source="urn:test")


def rows(
    first: int, count: int, *, wrong: float = 0.05, shift: float = 0.0, factor: float = 1.0, version: str = OLD
) -> tuple[list[Event[Any]], list[Event[Any]]]:
    """Requests with their answers, and the labels; a share of the answers is wrong, a large one where x is positive."""
    rng = np.random.default_rng(first)
    asked: list[Event[Any]] = []
    labels: list[Event[Any]] = []
    for number in range(first, first + count):
        x = float(rng.normal())
        up = x > 0
        asked += [request(f"row-{number}", (x + shift) * factor, number), completed(f"row-{number}", up, version)]
        share = wrong if wrong < 0.2 else 2 * wrong * up
        labels.append(label(f"row-{number}", up != bool(rng.uniform() < share)))
    return asked, labels


def rightly(labels: Iterable[Any], asked: Iterable[Any]) -> int:
    """How many answers agree with their label."""
    answers = {e.data.prediction_id: e.data.prediction for e in asked if isinstance(e, PredictionCompleted)}
    return sum(answers[e.data.prediction_id] == e.data.label for e in labels)


async def state(platform: Platform) -> dict[str, Any]:
    key = Keys(platform.namespace, PIPELINE).state
    stored: Any = await platform.bus.nodes.of(key).get(key)
    found: dict[str, Any] = orjson.loads(stored) if stored else {"counts": {}}
    return found


async def until_labelled(platform: Platform, count: int) -> dict[str, Any]:
    deadline = asyncio.get_running_loop().time() + 60
    while (found := await state(platform))["counts"].get("labelled", 0) < count:
        assert asyncio.get_running_loop().time() < deadline, found["counts"]
        await asyncio.sleep(0.02)
    return found


async def until_quiet(platform: Platform) -> None:
    """Until the group has taken and acknowledged everything."""
    deadline = asyncio.get_running_loop().time() + 60
    kinds = (PredictionRequested, PredictionCompleted, PredictionFailed, LabelObserved)
    streams = [f"{{{platform.namespace}:{PIPELINE}}}:{kind.type_name()}" for kind in kinds]
    redis = platform.bus.nodes.of(streams[0])
    while True:
        groups = [(await redis.xinfo_groups(s))[0] for s in streams]
        ends = [(await redis.xinfo_stream(s))["last-generated-id"] for s in streams]
        if all(g["pending"] == 0 and g["last-delivered-id"] == end for g, end in zip(groups, ends, strict=True)):
            return
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


async def test_labels_that_come_after_everything_else_complete_a_window(platform: Platform) -> None:
    await platform.declare(spec())
    await platform.publish(await promote(platform, OLD, 1))
    asked, labels = rows(1, 100)
    async with platform.running(build(settings(platform))):
        # The verdict on errors counts from the first verdict on inputs, so none falls due with the last label.
        await platform.publish(*asked[:100], *labels[:10])
        await until_labelled(platform, 10)
        await platform.publish(*asked[100:])
        await until_quiet(platform)
        await platform.publish(*labels[10:60])
        await until_labelled(platform, 60)
        await platform.publish(*labels[60:])
        measured = await platform.wait_for(PerformanceMeasured)
    assert (measured.data.labelled, measured.data.complete) == (100, True)
    assert measured.data.score == pytest.approx(rightly(labels, asked) / 100)


async def test_a_lost_redis_does_not_take_the_open_window_along(platform: Platform) -> None:
    await platform.declare(spec())
    await platform.publish(await promote(platform, OLD, 1))
    asked, labels = rows(1, 100)
    group = {"copy_seconds": 0.1}
    async with platform.running(build(settings(platform, **group))):
        await platform.publish(*asked[:120], *labels[:60])
        await until_labelled(platform, 60)
        deadline = asyncio.get_running_loop().time() + 60
        while (await copied(platform)).get("labelled") != 60:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)
    await platform.lose_redis()
    async with platform.running(build(settings(platform, **group))):
        await platform.publish(*asked[120:], *labels[60:])
        measured = await platform.wait_for(PerformanceMeasured)
        (evaluated,) = [e for e in await platform.events(DriftEvaluated, PIPELINE) if e.data.kind == "data"]
    assert (evaluated.data.window.rows, evaluated.data.verdict) == (100, "stable")
    assert (measured.data.labelled, measured.data.complete) == (100, True)
    assert measured.data.score == pytest.approx(rightly(labels, asked) / 100)


async def copied(platform: Platform) -> dict[str, int]:
    """What the copy in the store has counted."""
    data = await platform.store.read(state_copy_key(platform.namespace, PIPELINE, "monitoring"))
    counts: dict[str, int] = orjson.loads(orjson.loads(data)["strings"]["state"])["counts"] if data else {}
    return counts


def arrow(columns: dict[str, Any]) -> bytes:
    table, out = pa.table(columns), BytesIO()
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


async def test_the_rows_of_a_large_table_are_watched_and_labelled(platform: Platform) -> None:
    await platform.declare(spec())
    await platform.publish(await promote(platform, OLD, 1))
    x = np.random.default_rng(0).normal(size=600)
    ids = [f"row-{i}" for i in range(600)]
    odds = [[0.1, 0.9] if value > 0 else [0.9, 0.1] for value in x]
    nothing = pa.array([None] * 600, pa.string())
    up = [bool(value > 0) for value in x]
    told = {"prediction_id": ids, "prediction": up, "probabilities": odds, "error": nothing, "field": nothing}
    table = await platform.store.put("tables/spins/inputs/a.arrow", arrow({"x": x, "prediction_id": ids}))
    result = await platform.store.put("tables/spins/results/b.arrow", arrow(told))
    completed = CompletedTable(
        table_id="table",
        table=table,
        result=result,
        rows=600,
        refused=0,
        classes=(False, True),
        model_version=OLD,
        dataset_version="d" * 12,
    )
    event = TableCompleted.root(completed, subject=PIPELINE, source="urn:test", time=START)
    wrong = event.model_copy(
        update={"id": "wrong", "data": completed.model_copy(update={"result": table, "table": result})}
    )
    async with platform.running(build(settings(platform))):
        # Once more, as after a crash: a row counts once.
        await platform.publish(wrong, event, event)
        await platform.publish(*(label(id_, truth) for id_, truth in zip(ids, up, strict=True)))
        found = await until_labelled(platform, 600)
        letter = await platform.wait_for(EventDeadLettered, timeout=60)
        await platform.wait_for(PerformanceMeasured, timeout=60)
    assert (found["counts"]["answered"], found["counts"]["labelled"]) == (600, 600)
    assert letter.data.event_id == "wrong"
    evaluated = [e for e in await platform.events(DriftEvaluated, PIPELINE) if e.data.kind == "data"]
    assert len(evaluated) == 6


async def test_in_a_cluster_verdicts_and_labelled_rows_reach_the_control_plane_once(
    cluster: Servers, signing_keys: tuple[Path, Path], tmp_path: Path
) -> None:
    async with Platform.open(cluster, signing_keys, tmp_path) as platform:
        await platform.declare(spec(feedback_rows=200))
        await platform.publish(await promote(platform, OLD, 1))
        asked, labels = rows(1, 200)
        async with platform.running(build(settings(platform))):
            await platform.publish(*asked, *labels)
            await until_labelled(platform, 200)
            arrived = await platform.wait_for(DataArrived, timeout=60)
            await platform.wait_for(PerformanceMeasured, timeout=60)
        evaluated = [e for e in await platform.events(DriftEvaluated, PIPELINE) if e.data.kind == "data"]
        assert [e.data.verdict for e in evaluated] == ["stable", "stable"]
        assert arrived.data.rows
        assert 100 < arrived.data.rows <= 200  # the newest are kept for a while, lest their data be broken
        assert len(await platform.events(DataArrived)) == 1


async def test_pieces_in_any_order_and_number_are_counted_once(platform: Platform) -> None:
    await platform.declare(spec())
    await platform.publish(await promote(platform, OLD, 1))
    asked, labels = rows(1, 250)
    pieces = [*asked, *labels]
    pieces += random.Random(0).choices(pieces, k=400)  # noqa: S311 - a shuffle
    random.Random(1).shuffle(pieces)  # noqa: S311
    async with platform.running(build(settings(platform, batch_records=37))):
        await platform.publish(*pieces)
        await until_quiet(platform)
        found = await until_labelled(platform, 250)
    counts = found["counts"]
    assert (counts["requested"], counts["answered"], counts["labelled"]) == (250, 250, 250)
    assert counts["repeated"] == 400
    keys = Keys(platform.namespace, PIPELINE)
    assert await platform.redis.hlen(keys.open) == await platform.redis.zcard(keys.order) == 0
    finished = Finished(platform.redis, keys, 100)
    assert len(await finished.known([piece.id for piece in asked if isinstance(piece, PredictionRequested)])) == 250
    assert await platform.redis.llen(keys.feedback) == 250
    assert found["inputs"]["windows"]["0"]["place"][0] == 50
    evaluated = await platform.events(DriftEvaluated, PIPELINE)
    assert [e.data.verdict for e in evaluated if e.data.kind == "data"] == ["stable", "stable"]
    assert len({e.id for e in evaluated}) == len(evaluated)


async def test_rows_that_an_earlier_release_finished_are_not_counted_again(platform: Platform) -> None:
    former = Keys(platform.namespace, PIPELINE).former_done
    await platform.redis.zadd(former, {f"row-{n}": n for n in range(1, 41)})
    await platform.declare(spec())
    await platform.publish(await promote(platform, OLD, 1))
    asked, labels = rows(1, 60)
    async with platform.running(build(settings(platform))):
        await platform.publish(*asked, *labels)
        found = await until_labelled(platform, 20)
        await until_quiet(platform)
    assert (found["counts"]["labelled"], (await state(platform))["counts"]["answered"]) == (20, 20)
    assert not await platform.redis.exists(former)


async def test_errors_raise_an_alarm_rows_come_back_and_recovery_is_measured(platform: Platform) -> None:
    await platform.declare(spec())
    await platform.publish(await promote(platform, OLD, 1))
    async with platform.running(build(settings(platform))):
        for first, wrong in ((1, 0.05), (401, 0.5)):
            asked, labels = rows(first, 400, wrong=wrong)
            await platform.publish(*asked, *labels)
        await until_labelled(platform, 800)
        detected = await platform.wait_for(DriftDetected, lambda e: e.data.kind == "concept")
        drift = detected.data
        assert detected.subject == f"{PIPELINE}/{OLD}"
        assert 400 < drift.noticed_row < 600
        assert drift.began_row is not None
        assert abs(drift.began_row - 400) < 50
        assert drift.noticed_at == START + timedelta(minutes=drift.noticed_row)
        assert drift.evidence[0].statistic > drift.evidence[0].threshold

        # In an alarm rows do not wait for a full file.
        arrived = await platform.wait_for(DataArrived)
        assert arrived.data.origin == "feedback"
        lines = await feedback(platform)
        # The newest rows wait until it is certain that they are not broken.
        assert 800 - 2 * 32 <= len(lines) <= 800
        assert arrived.time == START + timedelta(minutes=arrived.data.rows or 0)
        assert set(lines[0]) == {"x", "up", "tidemill_time", "tidemill_prediction_id"}
        inbox = await platform.store.read(f"inbox/{arrived.id}.json")
        assert inbox is not None
        assert json.loads(inbox)["id"] == arrived.id

        await platform.publish(await promote(platform, NEW, 2))
        asked, labels = rows(801, 200, wrong=0.02, version=NEW)
        await platform.publish(*asked, *labels)
        recovered = await platform.wait_for(PerformanceRecovered)
        resolved = await platform.wait_for(DriftResolved, lambda e: e.data.kind == "concept")
    assert resolved.data.reason == "new_model"
    assert recovered.data.model_version == NEW
    # The score may have fallen before the alarm on errors was certain.
    assert recovered.data.rows_to_detect is not None
    assert recovered.data.rows_to_retrain is not None
    assert 20 < recovered.data.rows_to_detect <= drift.noticed_row - drift.began_row
    assert recovered.data.rows_to_detect + recovered.data.rows_to_retrain == 801 - drift.began_row
    assert recovered.data.rows_to_recover is not None
    assert recovered.data.rows_to_recover < 200
    assert len([e for e in await platform.events(DriftDetected) if e.data.kind == "concept"]) == 1


async def feedback(platform: Platform) -> list[dict[str, Any]]:
    """Every row sent back so far; objects must be what their events say."""
    lines: list[dict[str, Any]] = []
    events = await platform.events(DataArrived)
    assert len({e.id for e in events}) == len(events)
    for event in events:
        data = await platform.store.read(event.data.uri.split("/", 3)[3])
        assert data is not None
        assert hashlib.sha256(data).hexdigest() == event.data.sha256
        found = [json.loads(line) for line in data.splitlines()]
        assert len(found) == event.data.rows
        lines += found
    return lines


async def test_broken_data_are_named_and_kept_from_training(platform: Platform) -> None:
    """A sensor that changes its unit for a while: an alarm by its name, no drift, and none of its rows comes back."""
    await platform.declare(spec(feedback_rows=50, feedback_seconds=2.0, window_rows=200))
    await platform.publish(await promote(platform, OLD, 1))
    async with platform.running(build(settings(platform))):
        for first, factor in ((1, 1.0), (301, 1_000.0), (401, 1.0)):
            asked, labels = rows(first, 300 if first == 1 else 100, factor=factor)
            for at in range(0, len(labels), 25):
                await platform.publish(*asked[2 * at : 2 * at + 50], *labels[at : at + 25])
        await until_labelled(platform, 500)
        broken = await platform.wait_for(DataBroken)
        mended = await platform.wait_for(DataMended)
        deadline = asyncio.get_running_loop().time() + 20
        while await platform.redis.llen(Keys(platform.namespace, PIPELINE).feedback):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)
        sent = {int(line["tidemill_prediction_id"][4:]) for line in await feedback(platform)}
        aside = [await platform.store.read(key) for key in await platform.store.list(f"monitoring/{PIPELINE}/held/")]
    found = broken.data
    assert (found.kind, found.column, found.factor) == ("unit_changed", "x", 1_000.0)
    assert 237 <= found.first <= 301 <= found.noticed_row <= 364
    assert (mended.data.first, mended.data.reason) == (found.first, "healthy")
    assert 400 <= mended.data.last <= 464
    doubtful = set(range(found.first, mended.data.last + 1))
    assert sent == set(range(1, 501)) - doubtful
    held = [json.loads(line)["tidemill_prediction_id"] for data in aside for line in (data or b"").splitlines()]
    assert {int(id_[4:]) for id_ in held} == doubtful
    assert await platform.events(DriftDetected) == []


async def test_shifted_inputs_drift_and_the_answers_are_logged(platform: Platform) -> None:
    await platform.declare(spec())
    async with platform.running(build(settings(platform, log_rows=300, log_seconds=0.2))):
        # No event tells of this promotion: an answer may overtake it, the registry knows.
        await promote(platform, OLD, 1)
        await platform.publish(*rows(1, 100)[0], *rows(101, 200, shift=1.5)[0])
        detected = await platform.wait_for(DriftDetected)
        deadline = asyncio.get_running_loop().time() + 20
        keys = Keys(platform.namespace, PIPELINE)
        while await platform.redis.llen(keys.log) or (await state(platform))["counts"].get("answered") != 300:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)
        parts = await platform.store.list(f"predictions/{PIPELINE}/")
        tables = [pq.read_table(BytesIO(await platform.store.read(key) or b"")) for key in parts]
    assert detected.data.kind == "data"
    assert detected.data.features == ("x",)
    assert [e.data.verdict for e in await platform.events(DriftEvaluated) if e.data.kind == "data"] == [
        "stable",
        "warning",
        "drift",
    ]
    unlabelled = [e.data for e in await platform.events(DriftEvaluated) if e.data.kind == "concept"]
    assert {e.verdict for e in unlabelled} == {"insufficient_data"}
    assert {e.score for e in unlabelled} == {None}
    ids = [id_ for table in tables for id_ in table["prediction_id"].to_pylist()]
    assert sorted(ids) == sorted({f"row-{n}" for n in range(1, 301)})
    assert parts[0].startswith(f"predictions/{PIPELINE}/date=1915-04-01/hour=00/")


async def test_what_cannot_be_understood_is_set_aside(platform: Platform) -> None:
    await platform.declare(spec())
    await platform.publish(await promote(platform, OLD, 1))
    async with platform.running(build(settings(platform))):
        asked, labels = rows(1, 20)
        stream = labels[0].stream(platform.namespace)
        await platform.redis.xadd(stream, {"__data__": b"{"})
        null = label("row-1", True).to_json().replace(b'"label":true', b'"label":null')
        await platform.redis.xadd(stream, {"__data__": null})
        refused = PredictionFailed.root(
            FailedPrediction(prediction_id="row-99", error="not_finite", message="x"),
            subject=PIPELINE,
            source="urn:test",
        )
        await platform.publish(refused, request("row-99", 1.0, 99), *asked, *labels)
        found = await until_labelled(platform, 20)
        await until_quiet(platform)
        letters = await platform.redis.xrange(dead_letter_key(platform.namespace))
    assert {json.loads(fields[b"letter"])["reason"] for _, fields in letters} == {"undecodable", "invalid"}
    assert found["counts"]["failed"] == 1
    assert await platform.redis.hlen(Keys(platform.namespace, PIPELINE).open) == 0


async def test_rows_that_wait_too_long_are_given_up_and_counted(platform: Platform) -> None:
    await platform.declare(spec())
    await platform.publish(await promote(platform, OLD, 1))
    asked, labels = rows(1, 150)
    async with platform.running(build(settings(platform, open_rows=100, batch_records=100))):
        await platform.publish(*asked)
        await until_quiet(platform)
        await platform.publish(*rows(151, 100)[0])
        await until_quiet(platform)
        await platform.publish(*labels)
        await until_quiet(platform)
        found = await state(platform)
    keys = Keys(platform.namespace, PIPELINE)
    assert found["counts"]["expired"] > 0
    assert found["counts"]["labelled"] + found["counts"]["expired"] + await platform.redis.hlen(keys.open) == 250


@contextlib.asynccontextmanager
async def process(platform: Platform, config: MonitoringSettings) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service as a process of its own, as it runs in production; killed when the block ends."""
    store, redis = config.store, config.redis
    env = os.environ | {
        "TIDEMILL_NAMESPACE": platform.namespace,
        "TIDEMILL_REDIS__URL": redis.url,
        "TIDEMILL_REDIS__PASSWORD": redis.secret() or "",
        "TIDEMILL_STORE__ENDPOINT": store.endpoint,
        "TIDEMILL_STORE__BUCKET": store.bucket,
        "TIDEMILL_STORE__ACCESS_KEY": store.access_key,
        "TIDEMILL_STORE__SECRET_KEY": store.secret(),
        "TIDEMILL_DELIVERY__LEASE_SECONDS": "0.5",
        "TIDEMILL_DELIVERY__MAX_DELIVERIES": "50",
        "TIDEMILL_MONITORING__BATCH_RECORDS": "16",
        "TIDEMILL_MONITORING__POLL_SECONDS": "0.02",
        "TIDEMILL_LOG_LEVEL": "ERROR",
    }
    running = await asyncio.create_subprocess_exec(sys.executable, "-m", "tidemill_monitoring", env=env)
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.send_signal(signal.SIGKILL)
        await running.wait()


def chunks(pieces: list[Event[Any]], size: int) -> Iterable[list[Event[Any]]]:
    return (pieces[at : at + size] for at in range(0, len(pieces), size))


@pytest.mark.slow
async def test_kills_at_any_moment_change_nothing(platform: Platform) -> None:
    """kill -9 again and again: counts, windows and feedback are those of an undisturbed run."""
    await platform.declare(spec(feedback_rows=40, feedback_seconds=2.0))
    await platform.publish(await promote(platform, OLD, 1))
    asked, labels = rows(1, 400)
    pieces = [*asked, *labels]
    random.Random(2).shuffle(pieces)  # noqa: S311
    config = settings(platform)
    whim = random.Random(3)  # noqa: S311
    left = list(chunks(pieces, 200))
    kills = 0
    while left or (await state(platform))["counts"].get("labelled", 0) < 400:
        assert kills < 60
        async with process(platform, config):
            before = (await state(platform))["counts"].get("requested", 0)
            if left:
                await platform.publish(*left.pop())
            deadline = asyncio.get_running_loop().time() + 5
            while (await state(platform))["counts"].get("requested", 0) == before:
                if asyncio.get_running_loop().time() > deadline:
                    break
                await asyncio.sleep(0.005)
            await asyncio.sleep(whim.uniform(0, 0.15))
            kills += 1
    async with platform.running(build(settings(platform, alert_seconds=0.1))):
        await until_quiet(platform)
        found = await state(platform)
        keys = Keys(platform.namespace, PIPELINE)
        deadline = asyncio.get_running_loop().time() + 20
        while await platform.redis.llen(keys.feedback):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)
    assert kills >= 6
    counts = found["counts"]
    assert (counts["requested"], counts["answered"], counts["labelled"]) == (400, 400, 400)
    assert counts.get("repeated", 0) == 0
    evaluated = await platform.events(DriftEvaluated, PIPELINE)
    assert len({e.id for e in evaluated}) == len(evaluated)
    data = [e.data.window for e in evaluated if e.data.kind == "data"]
    assert [(w.first, w.last) for w in data] == [(n + 1, n + 100) for n in range(0, 400, 100)]
    sent = [line["tidemill_prediction_id"] for line in await feedback(platform)]
    assert len(sent) == len(set(sent))
    assert len(sent) == 400
    measured = sorted((e.data for e in await platform.events(PerformanceMeasured)), key=lambda m: m.window.first or 0)
    assert [(m.window.first, m.labelled, m.complete) for m in measured] == [(n, 100, True) for n in (1, 101, 201, 301)]
    assert sum((m.score or 0) * m.labelled for m in measured) == pytest.approx(rightly(labels, asked))
    inbox = await platform.store.list("inbox/")
    assert len(inbox) == len(await platform.events(DataArrived))
