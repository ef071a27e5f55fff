"""The service on a real Redis and a real S3."""

import asyncio
import dataclasses
import gzip
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
import pytest

from tidemill_contracts.artifacts import dataset_log_prefix, inbox_key, outcome_key, raw_key
from tidemill_contracts.dataset import ArrivedData, DatasetManifest, Outcome, PreparedDataset, Profile
from tidemill_contracts.events import DataArrived, DatasetPrepared, DatasetRejected
from tidemill_contracts.pipeline import Feature, PipelineSpec, RowPolicy
from tidemill_ingestion.app import build
from tidemill_ingestion.domain.job import Prepared, RefusedFile
from tidemill_ingestion.handlers import Ingestion
from tidemill_ingestion.settings import IngestionGroup, IngestionSettings
from tidemill_ingestion.sweeper import Sweeper
from tidemill_shared.append_log import AppendLog
from tidemill_shared.errors import ChildDied
from tidemill_shared.inbox import accept
from tidemill_shared.service import Service
from tidemill_shared.testing.platform import Platform, after

SPEC = PipelineSpec(
    name="games",
    task="classification",
    target="won",
    positive=True,
    primary="f1",
    rows=RowPolicy(min_rows=30),
)


def table(count: int, start: int = 0) -> bytes:
    rows = [f"{i}.5,{'home' if i % 3 else 'away'},{'true' if i % 2 else 'false'}" for i in range(start, start + count)]
    return "\n".join(["points,where,won", *rows, ""]).encode()


async def arrive(
    platform: Platform,
    data: bytes,
    *,
    suffix: str = ".csv",
    pipeline: str = "games",
    id: str | None = None,  # noqa: A002
    **changes: Any,
) -> DataArrived:
    """Upload and publish as a raw producer does, without an inbox entry."""
    digest = hashlib.sha256(data).hexdigest()
    key = raw_key(pipeline, digest, suffix)
    await platform.store.put(key, data)
    payload = {"uri": f"s3://{platform.store.bucket}/{key}", "sha256": digest, "size": len(data)}
    event = DataArrived.root(ArrivedData.model_validate(payload | changes), subject=pipeline, source="urn:test", id=id)
    await platform.publish(event)
    return event


@asynccontextmanager
async def ingestion(platform: Platform, spec: PipelineSpec | None = SPEC, **group: Any) -> AsyncIterator[Service]:
    if spec:
        await platform.declare(spec)
    settings = platform.settings(IngestionSettings, ingestion=IngestionGroup(**group))
    async with platform.running(build(settings)) as service:
        yield service


async def prepared(platform: Platform, event: DataArrived) -> DatasetPrepared:
    return await platform.wait_for(DatasetPrepared, after(event))


async def refused(platform: Platform, event: DataArrived) -> DatasetRejected:
    return await platform.wait_for(DatasetRejected, after(event))


async def test_rows_become_a_version_and_the_next_one_appends(platform: Platform) -> None:
    async with ingestion(platform):
        first = (await prepared(platform, await arrive(platform, table(60)))).data
        event = await arrive(platform, gzip.compress(table(40, start=40)), suffix=".csv.gz")
        second = await prepared(platform, event)
    manifest = await platform.store.document(second.data.manifest, DatasetManifest)
    assert (first.sequence, second.data.sequence) == (1, 2)
    assert second.subject == f"games/{manifest.version}"
    assert (manifest.new_rows, manifest.quarantined) == (20, {"duplicate": 20})
    assert manifest.parent == first.manifest
    assert manifest.causes == (event.id,)
    assert manifest.classes == (False, True)
    assert sum(manifest.rows.values()) == sum(part.rows for part in manifest.parts) == 80
    older = await platform.store.document(first.manifest, DatasetManifest)
    assert manifest.parts[: len(older.parts)] == older.parts
    for part in manifest.parts:
        path = await platform.store.cached(part.file)
        assert await asyncio.to_thread(lambda path=path: pq.read_metadata(path).num_rows) == part.rows
    assert manifest.profile is not None
    assert (await platform.store.document(manifest.profile, Profile)).rows == 80
    assert manifest.quarantine is not None
    assert await platform.store.get(manifest.quarantine)
    outcome = await platform.store.read_document(outcome_key(event.id), Outcome)
    assert outcome == Outcome(event_id=event.id, pipeline="games", prepared=second.data)
    # The raw producer's event is now among the accepted ones.
    assert await platform.store.read(inbox_key(event.id)) == event.to_json()


async def test_a_new_process_and_a_new_revision_go_on_from_the_store(platform: Platform) -> None:
    async with ingestion(platform):
        await prepared(platform, await arrive(platform, table(60)))
    narrower = SPEC.model_copy(update={"revision": 2, "features": (Feature(name="points", kind="numeric"),)})
    async with ingestion(platform, narrower):
        event = await prepared(platform, await arrive(platform, table(70)))
        manifest = await platform.store.document(event.data.manifest, DatasetManifest)
        assert (manifest.new_rows, [c.name for c in manifest.columns]) == (10, ["points", "won"])
    other = SPEC.model_copy(update={"revision": 3, "target": "where", "positive": None})
    async with ingestion(platform, other):
        event_ = await arrive(platform, table(80))
        assert (await refused(platform, event_)).data.reasons[0].code == "breaking_schema"


async def test_what_is_refused_and_that_nothing_else_stops(platform: Platform) -> None:
    data = table(60)
    packed = gzip.compress(data)
    async with ingestion(platform, max_bytes=1024**2):
        other = await platform.declare(SPEC.model_copy(update={"name": "single"}))
        await prepared(platform, await arrive(platform, data))
        cases = {
            "too_large": await arrive(platform, data, size=3 * 1024**3),
            "size_mismatch": await arrive(platform, data, size=len(data) + 1),
            "checksum_mismatch": await arrive(platform, data, sha256="0" * 64),
            "missing_object": await arrive(platform, data, uri=f"s3://{platform.store.bucket}/raw/none.csv"),
            "foreign_bucket": await arrive(platform, data, uri="s3://elsewhere/raw/file.csv"),
            "bad_uri": await arrive(platform, data, uri=f"s3://{platform.store.bucket}/raw/../file.csv"),
            "unknown_format": await arrive(platform, data, suffix=".xlsx"),
            "empty_file": await arrive(platform, b""),
            "truncated_gzip": await arrive(platform, packed[:-20], suffix=".csv.gz"),
            "breaking_schema": await arrive(platform, data.replace(b"points", b"point")),
            "no_target_column": await arrive(platform, data.replace(b"won", b"win")),
            "nothing_new": await arrive(platform, data, id="again"),
            "one_class": await arrive(platform, data.replace(b"true", b"false"), pipeline=other.spec.name),
            "too_few_rows": await arrive(platform, table(10), pipeline=other.spec.name),
            "pipeline_not_declared": await arrive(platform, data, pipeline="unheard-of"),
        }
        for code, event in cases.items():
            rejected = await refused(platform, event)
            assert rejected.data.reasons[0].code == code
            assert rejected.data.reasons[0].message
        renamed = await refused(platform, cases["breaking_schema"])
        assert "'point'" in renamed.data.reasons[0].message
        again = await refused(platform, cases["nothing_new"])
        assert again.data.quarantine is not None
        assert (await prepared(platform, await arrive(platform, table(5, start=900)))).data.new_rows == 5
    assert await platform.store.list("inbox/") == sorted(
        key.replace("outcomes/", "inbox/") for key in await platform.store.list("outcomes/")
    )


async def test_not_finite_rows_go_to_quarantine(platform: Platform) -> None:
    async with ingestion(platform):
        data = table(60).replace(b"\n7.5,", b"\ninf,").replace(b"\n9.5,", b"\nnan,")
        event = await prepared(platform, await arrive(platform, data))
    manifest = await platform.store.document(event.data.manifest, DatasetManifest)
    assert (event.data.quarantined, manifest.quarantined) == (2, {"not_finite": 2})


async def test_the_same_event_again_has_the_same_outcome(platform: Platform) -> None:
    async with ingestion(platform):
        event = await arrive(platform, table(60))
        once = await prepared(platform, event)
        await platform.publish(event)
        marker = await arrive(platform, b"")
        await refused(platform, marker)
    events = await platform.events(DatasetPrepared, "games")
    assert [(e.id, e.data) for e in events] == [(once.id, once.data)] * 2
    assert len(await platform.store.list(dataset_log_prefix("games"))) == 1


async def test_feedback_is_told_apart_and_keeps_its_time(platform: Platform) -> None:
    lines = "\n".join(
        f'{{"tidemill_prediction_id": "p{i}", "tidemill_time": "1914-10-01T00:00:00Z", "points": {i}, '
        f'"where": "home", "won": true}}'
        for i in range(8)
    ).encode()
    async with ingestion(platform):
        await prepared(platform, await arrive(platform, table(60)))
        event = await prepared(platform, await arrive(platform, lines, suffix=".jsonl", origin="feedback"))
        again = await arrive(platform, lines + b"\n", suffix=".jsonl", origin="feedback")
        assert (await refused(platform, again)).data.reasons[0].code == "nothing_new"
    assert event.data.origin == "feedback"
    assert event.data.time_min == event.data.time_max == datetime(1914, 10, 1, tzinfo=UTC)
    manifest = await platform.store.document(event.data.manifest, DatasetManifest)
    assert {part.origin for part in manifest.parts} == {"upload", "feedback"}


async def test_a_sliding_window_drops_whole_parts(platform: Platform) -> None:
    spec = SPEC.model_copy(update={"rows": RowPolicy(keep="sliding", window_rows=100, min_rows=30)})
    async with ingestion(platform, spec, profile_rows=100):
        for start in (0, 80, 160):
            event = await prepared(platform, await arrive(platform, table(80, start)))
    manifest = await platform.store.document(event.data.manifest, DatasetManifest)
    assert (manifest.from_ordinal, manifest.next_ordinal, sum(manifest.rows.values())) == (140, 240, 100)
    assert min(part.last_ordinal for part in manifest.parts) >= 140


async def test_a_crash_after_the_log_is_healed_by_whatever_comes_next(platform: Platform) -> None:
    """The outcome of a logged version is lost, and another file comes before the event is delivered again."""
    async with ingestion(platform):
        event = await arrive(platform, table(60))
        first = await prepared(platform, event)
        await platform.store.delete(outcome_key(event.id))
        await prepared(platform, await arrive(platform, table(60, start=60)))
        assert await platform.store.exists(outcome_key(event.id))
        await platform.publish(event)
        await refused(platform, await arrive(platform, b""))
    events = [e for e in await platform.events(DatasetPrepared, "games") if e.causationid == event.id]
    assert [e.data for e in events] == [first.data] * 2


async def test_a_crash_before_the_log_repeats_the_work(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    append = AppendLog.append

    async def die(*_: Any) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(AppendLog, "append", die)
    await platform.declare(SPEC)
    settings = platform.settings(IngestionSettings)
    service = build(settings)
    stop = asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    event = await arrive(platform, table(60))
    deadline = asyncio.get_running_loop().time() + 20
    while not [key for key in await platform.store.list("datasets/") if key.endswith("manifest.json")]:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    stop.set()
    await running
    written = await platform.store.list("datasets/")
    assert await platform.events(DatasetPrepared) == []
    monkeypatch.setattr(AppendLog, "append", append)
    async with ingestion(platform, None):
        await prepared(platform, event)
    assert await platform.store.list("datasets/") == written


async def test_a_file_whose_preparation_keeps_dying_is_refused(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ingestion(platform) as service:
        bound = service.bus.subscriptions[0].handler.__self__  # type: ignore[attr-defined]
        assert isinstance(bound, Ingestion)

        async def killed(*_: Any, **__: Any) -> Prepared | RefusedFile:
            raise ChildDied("killed")

        monkeypatch.setattr(bound.child, "run", killed)
        rejected = await refused(platform, await arrive(platform, table(60)))
    assert rejected.data.reasons[0].code == "out_of_memory"


async def test_a_file_that_takes_too_long_is_refused(platform: Platform) -> None:
    async with ingestion(platform, limit_seconds=0.001):
        rejected = await refused(platform, await arrive(platform, table(60)))
    assert rejected.data.reasons[0].code == "too_slow"


async def test_two_replicas_make_one_line_of_versions(platform: Platform) -> None:
    await platform.declare(SPEC)
    settings = [platform.settings(IngestionSettings, instance=name) for name in "ab"]
    async with platform.running(build(settings[0])), platform.running(build(settings[1])):
        events = [await arrive(platform, table(60, start)) for start in range(0, 360, 60)]
        made = [(await prepared(platform, event)).data for event in events]
    log = await AppendLog(platform.store, dataset_log_prefix("games"), PreparedDataset).entries()
    assert [number for number, _ in log] == list(range(1, 7))
    assert sorted(p.version for p in made) == sorted(p.version for _, p in log)
    manifests = [await platform.store.document(p.manifest, DatasetManifest) for _, p in log]
    assert [m.parent for m in manifests] == [None, *(p.manifest for _, p in log[:-1])]
    assert sum(manifests[-1].rows.values()) == 360


async def test_an_accepted_event_that_redis_lost_is_published_again(platform: Platform) -> None:
    """Accepted means written to the inbox; nothing else is needed."""
    data = table(60)
    digest = hashlib.sha256(data).hexdigest()
    key = raw_key("games", digest, ".csv")
    await platform.store.put(key, data)
    payload = ArrivedData(uri=f"s3://{platform.store.bucket}/{key}", sha256=digest, size=len(data))
    event = DataArrived.root(payload, subject="games", source="urn:test")
    await platform.store.put(inbox_key(event.id), event.to_json())
    await platform.store.put(inbox_key("broken"), b"{}")
    async with ingestion(platform, sweep_seconds=0.1, grace_seconds=0.2):
        assert (await prepared(platform, event)).data.new_rows == 60


async def test_the_sweeper_waits_and_then_waits_longer(platform: Platform) -> None:
    @dataclasses.dataclass
    class Clock:
        now: float = 0.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()
    settings = platform.settings(IngestionSettings, ingestion=IngestionGroup(sweep_seconds=10, grace_seconds=30))
    service = Service("ingestion", settings)
    sweeper = Sweeper(service, settings.ingestion, clock)
    event = DataArrived.root(
        ArrivedData(uri="s3://b/k.csv", sha256="0" * 64, size=1), subject="games", source="urn:test"
    )
    await platform.store.put(inbox_key(event.id), event.to_json())
    published = []
    try:
        for clock.now in range(0, 220, 10):
            if await sweeper.sweep():
                published.append(clock.now)
        assert published == [30, 90, 210]
        assert [e.id for e in await platform.events(DataArrived)] == [event.id] * 3
        done = Outcome(event_id=event.id, pipeline="games")
        await platform.store.put_document(outcome_key(event.id), done)
        clock.now = 10_000
        assert await sweeper.sweep() == 0
    finally:
        await service.bus.stop()
        service.store.close()


async def test_a_round_of_the_sweeper_costs_what_is_new_and_not_what_ever_was(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = platform.settings(IngestionSettings, ingestion=IngestionGroup(sweep_seconds=10, grace_seconds=0))
    service = Service("ingestion", settings)
    sweeper = Sweeper(service, settings.ingestion)
    data = ArrivedData(uri="s3://b/k.csv", sha256="0" * 64, size=1)

    def arrived(number: int) -> DataArrived:
        return DataArrived.root(data, subject="games", source="urn:test", id=f"event-{number}")

    async def settle(event: DataArrived) -> None:
        await platform.store.put_document(outcome_key(event.id), Outcome(event_id=event.id, pipeline="games"))

    seen = 0
    listing = service.store.list

    async def listed(prefix: str) -> list[str]:
        nonlocal seen
        found = await listing(prefix)
        seen += len(found)
        return found

    monkeypatch.setattr(service.store, "list", listed)
    try:
        for number in range(40):
            await platform.store.put(inbox_key(f"event-{number}"), arrived(number).to_json())
            await settle(arrived(number))
        assert await sweeper.sweep() == 0
        first, seen = seen, 0
        assert first == 80
        fresh = [arrived(n) for n in (40, 41)]
        for event in fresh:
            await accept(platform.store, event)
        await settle(fresh[0])
        assert await sweeper.sweep() == 1  # the one that is owed
        assert [e.id for e in await platform.events(DataArrived)] == ["event-41"]
        assert seen == 2
        await settle(fresh[1])
        assert await sweeper.sweep() == 0
        assert not sweeper._due
    finally:
        await service.bus.stop()
        service.store.close()
