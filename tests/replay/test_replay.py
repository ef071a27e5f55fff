"""Histories of releases, replayed: what came in then leads to the same registry today.

A difference is no mistake by itself, but it is what an upgrade would do to everybody: datasets of the same rows under
other names, another champion. Then say so in the changelog, and record anew (``record.py``).
"""

import asyncio
import json
import tarfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tidemill_contracts.artifacts import dataset_log_prefix, outcome_key, promotions_prefix
from tidemill_contracts.dataset import Outcome, PreparedDataset
from tidemill_contracts.events import DataArrived, ModelPackaged, ModelRejected, ModelValidated, PipelineDeclared
from tidemill_contracts.promotion import Promotion
from tidemill_contracts.registry import parse
from tidemill_ingestion.app import build as build_ingestion
from tidemill_ingestion.settings import IngestionSettings
from tidemill_shared.append_log import AppendLog
from tidemill_shared.pipelines import Pipelines
from tidemill_shared.settings import DeliverySettings
from tidemill_shared.store import Store
from tidemill_shared.testing.platform import Platform
from tidemill_validation.app import build as build_validation
from tidemill_validation.settings import ValidationSettings

pytestmark = pytest.mark.slow
HISTORIES = sorted(Path(__file__).parent.glob("history-*.tar.xz"))
assert HISTORIES
SAME = {"sequence", "kind", "pipeline", "version", "previous", "cause", "manifest", "attestation"}
"""Of a promotion; its time, its signature, and measured latencies in its report are of the day."""


@dataclass(frozen=True)
class History:
    """One release's."""

    objects: dict[str, bytes]
    expected: dict[str, bytes]
    events: tuple[DataArrived | ModelPackaged, ...]
    public_key: bytes

    @classmethod
    def read(cls, file: Path, bucket: str) -> "History":
        """As it would have been in another bucket."""
        with tarfile.open(file) as archive:
            members = {m.name: archive.extractfile(m) for m in archive.getmembers()}
            files = {name: member.read() for name, member in members.items() if member}
        bodies = [json.loads(line)["body"] for line in files["events.jsonl"].splitlines()]
        events = [parse(body.replace("s3://tidemill/", f"s3://{bucket}/").encode()) for body in bodies]
        return cls(
            {n.removeprefix("objects/"): d for n, d in files.items() if n.startswith("objects/")},
            {n.removeprefix("expected/"): d for n, d in files.items() if n.startswith("expected/")},
            tuple(e for e in events if isinstance(e, DataArrived | ModelPackaged)),
            files["public.pem"],
        )


async def eventually(found: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(30):
        while not (result := await found()):
            await asyncio.sleep(0.01)
    return result


async def judged(platform: Platform, event: ModelPackaged) -> bool:
    kinds = [await platform.events(kind) for kind in (ModelValidated, ModelRejected)]
    return any(e.causationid == event.id for found in kinds for e in found)


async def outcome(store: Store, event: DataArrived) -> Outcome | None:
    return await store.read_document(outcome_key(event.id), Outcome)


@pytest.mark.parametrize("file", HISTORIES, ids=lambda f: f.name)
async def test_the_same_history_leads_to_the_same_registry(platform: Platform, file: Path, tmp_path: Path) -> None:
    history = History.read(file, platform.store.bucket)
    for key, data in history.objects.items():
        await platform.store.put(key, data)
    key_file = tmp_path / "packages.pem"
    key_file.write_bytes(history.public_key)
    delivery = DeliverySettings(lease_seconds=10.0, block_seconds=0.2)
    ingestion = build_ingestion(platform.settings(IngestionSettings, delivery=delivery))
    settings = platform.settings(ValidationSettings, delivery=delivery)
    keys = settings.keys.model_copy(update={"public_file": key_file})
    validation = build_validation(settings.model_copy(update={"keys": keys}))
    async with platform.running(ingestion), platform.running(validation):
        pipelines = Pipelines(platform.store)
        await pipelines.load()
        for name in pipelines.names():
            declared = await pipelines.declared(name)
            assert declared is not None
            await platform.publish(PipelineDeclared.root(declared, subject=name, source="urn:test"))
        for event in history.events:
            await platform.publish(event)
            if isinstance(event, DataArrived):
                await eventually(lambda e=event: outcome(platform.store, e))
            else:
                await eventually(lambda e=event: judged(platform, e))
    for name in pipelines.names():
        log = AppendLog(platform.store, dataset_log_prefix(name), PreparedDataset)
        datasets = {f"{dataset_log_prefix(name)}{n:08d}.json": made for n, made in await log.entries()}
        then = {k: PreparedDataset.from_json(d) for k, d in history.expected.items() if k in datasets}
        assert [d.version for d in datasets.values()] == [d.version for d in then.values()]
        assert len(datasets) == sum(k.startswith(dataset_log_prefix(name)) for k in history.expected) > 3
        promotions = [p for _, p in await AppendLog(platform.store, promotions_prefix(name), Promotion).entries()]
        before = [Promotion.from_json(d) for k, d in history.expected.items() if k.startswith(promotions_prefix(name))]
        assert [p.model_dump(include=SAME) for p in promotions] == [p.model_dump(include=SAME) for p in before]
        assert len(promotions) > 1
