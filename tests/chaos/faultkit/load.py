"""Traffic: prediction requests and new data, published as a careful producer would, and as a careless one."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from faultkit.evidence import Evidence
from tidemill_console.commands.data import publish_file
from tidemill_console.commands.declare import declare_pipeline
from tidemill_console.demo.seasons import FIRST_LIVE, first_file, read
from tidemill_contracts.envelope import FIELD, content_id
from tidemill_contracts.events import ModelDeployed, PredictionCompleted, PredictionFailed, PredictionRequested
from tidemill_contracts.pipeline import PipelineSpec, RetrainPolicy, RowPolicy, SearchPolicy
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_contracts.registry import parse_as
from tidemill_contracts.streams import stream_key

PIPELINE = "home-runs"
_BATCH = 100
SPEC = PipelineSpec(
    name=PIPELINE,
    task="classification",
    target="ten_or_more",
    positive=1,
    primary="f1",
    keys=("player", "season", "stint"),
    exclude=("player", "season", "stint"),
    time="played",
    rows=RowPolicy(min_rows=200),
    search=SearchPolicy(families=("hist_gradient_boosting", "linear"), trials=2, seconds=10),
    retrain=RetrainPolicy(cool_down_seconds=0.5, min_rows=200),
)


async def first_model(client: Any, folder: Path, patience: float = 60.0) -> None:
    """Declare the pipeline, publish its rows, and wait until its model answers."""
    await declare_pipeline(client, SPEC)
    file = folder / "rows.csv"
    file.write_bytes(first_file(read()))
    await publish_file(client, PIPELINE, file, ".csv", content_id("chaos", "first"))
    await deployed(client, patience)


async def deployed(client: Any, patience: float = 60.0, sequence: int = 1) -> None:
    """Wait until a promotion of at least this number answers."""
    deadline = time.monotonic() + patience
    stream = stream_key(client.namespace, ModelDeployed.type_name())
    while time.monotonic() < deadline:
        try:
            for _, fields in await client.bus.redis.xrange(stream):
                event = parse_as(ModelDeployed, fields[FIELD.encode()])
                if event.pipeline == PIPELINE and event.data.sequence >= sequence:
                    return
        except RedisError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"no model of {PIPELINE} answered within {patience} s")


def requests(count: int, seed: int) -> list[PredictionRequested]:
    """Requests with the features of real rows, ids of their own."""
    chooser = random.Random(seed)
    lines = [line for year, found in read().items() if year >= FIRST_LIVE for line in found]
    return [
        PredictionRequested.root(
            RequestedPrediction(features=dict(chooser.choice(lines).features)),
            subject=PIPELINE,
            source="urn:tidemill:chaos",
            id=f"chaos-{seed}-{number}",
        )
        for number in range(count)
    ]


async def publish(client: Any, events: Sequence[Any], evidence: Evidence, per_second: float | None = None) -> None:
    """Publish with the same ids until it works; an id counts as sent once its publication was acknowledged."""
    begun = time.monotonic()
    for start in range(0, len(events), _BATCH):
        batch = events[start : start + _BATCH]
        while True:
            try:
                await client.bus.publish(*batch)
                break
            except (RedisError, OSError):
                await asyncio.sleep(0.1)
        evidence.sent.update(e.id for e in batch if isinstance(e, PredictionRequested))
        if per_second:
            await asyncio.sleep(max(0.0, begun + (start + len(batch)) / per_second - time.monotonic()))


async def answered(client: Any, evidence: Evidence, patience: float) -> bool:
    """Wait until every sent request has an answer and nothing is pending or unread."""
    deadline = time.monotonic() + patience
    kinds = (PredictionCompleted, PredictionFailed)
    position: dict[Any, Any] = {stream_key(client.namespace, k.type_name(), PIPELINE): "0" for k in kinds}
    waiting = set(evidence.sent)
    while time.monotonic() < deadline:
        try:
            reply: Any = await client.bus.redis.xread(dict(position), count=2000, block=200)
            for name, entries in reply.items() if isinstance(reply, dict) else reply or ():
                for entry, fields in entries:
                    position[name.decode()] = entry.decode()
                    waiting.discard(json.loads(fields[FIELD.encode()])["data"]["prediction_id"])
            if not waiting and not reply and await quiet(client):
                return True
        except (RedisError, OSError):
            await asyncio.sleep(0.1)
    return False


async def answered_only(client: Any, evidence: Evidence, patience: float) -> bool:
    """Wait until every sent request has an answer, whatever else is still under way."""
    deadline = time.monotonic() + patience
    kinds = (PredictionCompleted, PredictionFailed)
    position: dict[Any, Any] = {stream_key(client.namespace, k.type_name(), PIPELINE): "0" for k in kinds}
    waiting = set(evidence.sent)
    while waiting and time.monotonic() < deadline:
        reply: Any = await client.bus.redis.xread(dict(position), count=2000, block=200)
        for name, entries in reply.items() if isinstance(reply, dict) else reply or ():
            for entry, fields in entries:
                position[name.decode()] = entry.decode()
                waiting.discard(json.loads(fields[FIELD.encode()])["data"]["prediction_id"])
    return not waiting


async def quiet(client: Any) -> bool:
    """Whether no group has anything pending or unread, on any stream."""
    async for key in client.bus.redis.scan_iter(match="*tidemill*", count=500, _type="stream"):
        newest = await client.bus.redis.xrevrange(key, count=1)
        for group in await client.bus.redis.xinfo_groups(key):
            if group["pending"] or (newest and group["last-delivered-id"] != newest[0][0]):
                return False
    return True
