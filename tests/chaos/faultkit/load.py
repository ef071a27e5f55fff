"""Traffic: prediction requests and new data, published as a careful producer would, and as a careless one."""

import asyncio
import contextlib
import json
import random
import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from redis.exceptions import RedisError

from faultkit.evidence import Evidence
from tidemill_console.commands.data import publish_file
from tidemill_console.commands.declare import declare_pipeline
from tidemill_console.demo.seasons import FIRST_LIVE, first_file, read
from tidemill_contracts.envelope import FIELD, content_id
from tidemill_contracts.events import (
    ModelDeployed,
    PredictionCompleted,
    PredictionFailed,
    PredictionRequested,
    TrainingRequested,
)
from tidemill_contracts.model import RequestedTraining
from tidemill_contracts.pipeline import PipelineSpec, RetrainPolicy, RowPolicy, SearchPolicy
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_contracts.registry import parse_as
from tidemill_contracts.streams import stream_key
from tidemill_shared.errors import StoreUnavailable

PIPELINE = "home-runs"
SOURCE = "urn:tidemill:chaos"
_BATCH = 100
CELL = "kanarie" + secrets.token_hex(6)
"""Of one request in a hundred, in a column that the model does not know: no log and no control event may hold it."""
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


SMALL = SPEC.model_copy(
    update={"rows": RowPolicy(min_rows=100), "search": SearchPolicy(families=("linear",), trials=1, seconds=10)}
)


async def first_model(client: Any, folder: Path, patience: float = 300.0) -> None:
    """Declare the pipeline, publish its rows, and wait until its model answers."""
    await declare_pipeline(client, SPEC)
    file = folder / "rows.csv"
    file.write_bytes(first_file(read()))
    await publish_file(client, PIPELINE, file, ".csv", content_id("chaos", "first"))
    await deployed(client, patience)


async def declare(client: Any, name: str, rows: Path) -> None:
    """One more pipeline of the same kind, quicker to train, and its rows."""
    while True:
        try:
            await declare_pipeline(client, SMALL.model_copy(update={"name": name}))
            await publish_file(client, name, rows, ".csv", content_id("chaos", name))
            return
        except (RedisError, OSError, StoreUnavailable):
            await asyncio.sleep(0.2)


async def champions(client: Any) -> set[str]:
    """Pipelines whose promoted model answers."""
    found = await client.bus.redis.xrange(stream_key(client.namespace, ModelDeployed.type_name()))
    return {parse_as(ModelDeployed, fields[FIELD.encode()]).pipeline for _, fields in found}


async def without_champion(client: Any, names: Iterable[str], patience: float) -> set[str]:
    """Wait until each of the pipelines has a model that answers; those that have none by then."""
    deadline = time.monotonic() + patience
    while (missing := set(names) - await champions(client)) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    return missing


async def deployed(client: Any, patience: float = 60.0, sequence: int = 1) -> None:
    """Wait until a promotion of at least this number answers."""
    deadline = time.monotonic() + patience
    stream = stream_key(client.namespace, ModelDeployed.type_name())
    while time.monotonic() < deadline:
        with contextlib.suppress(RedisError):
            for _, fields in await client.bus.redis.xrange(stream):
                event = parse_as(ModelDeployed, fields[FIELD.encode()])
                if event.pipeline == PIPELINE and event.data.sequence >= sequence:
                    return
        await asyncio.sleep(0.05)
    raise AssertionError(f"no model of {PIPELINE} answered within {patience} s")


def requests(count: int, seed: str) -> list[PredictionRequested]:
    """Requests with the features of real rows, ids of their own."""
    chooser = random.Random(seed)
    lines = [line for year, found in read().items() if year >= FIRST_LIVE for line in found]
    return [
        PredictionRequested.root(
            RequestedPrediction(features=chooser.choice(lines).features | ({} if number % 100 else {"player": CELL})),
            subject=PIPELINE,
            source=SOURCE,
            id=f"chaos-{seed}-{number}",
        )
        for number in range(count)
    ]


async def publish(client: Any, events: Sequence[Any], evidence: Evidence, per_second: float | None = None) -> None:
    """Publish with the same ids until it works; an id counts as sent once its publication was acknowledged."""
    begun = time.monotonic()
    step = max(1, min(_BATCH, int(per_second / 10))) if per_second else _BATCH
    for start in range(0, len(events), step):
        batch = events[start : start + step]
        while True:
            try:
                await client.bus.publish(*batch)
                break
            except (RedisError, OSError):
                await asyncio.sleep(0.1)
        evidence.sent.update(e.id for e in batch if isinstance(e, PredictionRequested))
        if per_second:
            await asyncio.sleep(max(0.0, begun + (start + len(batch)) / per_second - time.monotonic()))


async def arrivals(client: Any, folder: Path, count: int, label: str) -> None:
    """Publish new files of rows, each as a careful person would: again, with the same id, until it is accepted."""
    rows = (folder / "rows.csv").read_text().splitlines()
    for number in range(count):
        file = folder / f"{label}-{number}.csv"
        file.write_text("\n".join([rows[0], *(f"{label}-{number}-{line}" for line in rows[1:400])]) + "\n")
        event_id = str(uuid4())
        while True:
            try:
                await publish_file(client, PIPELINE, file, ".csv", event_id)
                break
            except (StoreUnavailable, RedisError, OSError):
                await asyncio.sleep(0.5)


async def settled(client: Any, inbox: Iterable[str], patience: float) -> bool:
    """Wait until accepted rows have an outcome."""
    wanted = {key.replace("inbox/", "outcomes/", 1) for key in inbox}
    deadline = time.monotonic() + patience
    while not wanted <= set(await client.store.list("outcomes/")):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.5)
    return True


async def training(client: Any) -> None:
    """Ask for a training now."""
    asked = RequestedTraining(reason="chaos", force=True)
    await publish(client, [TrainingRequested.root(asked, subject=PIPELINE, source=SOURCE)], Evidence())


async def latency(client: Any, ids: set[str]) -> float:
    """Seconds from a request's entry to its answer's, by Redis's clock: the 95th percentile."""
    asked = await _times(client, "prediction.requested.v1", "id")
    told = await _times(client, "prediction.completed.v1", "prediction_id")
    waits = sorted(told[i] - asked[i] for i in ids if i in asked and i in told)
    return waits[int(len(waits) * 0.95)] if waits else float("inf")


async def _times(client: Any, kind: str, field: str) -> dict[str, float]:
    found: dict[str, float] = {}
    last = "-"
    while entries := await client.bus.redis.xrange(stream_key(client.namespace, kind, PIPELINE), min=last, count=5000):
        for entry, fields in entries:
            try:
                event = json.loads(fields[FIELD.encode()])
                name = event["id"] if field == "id" else event["data"][field]
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            found.setdefault(str(name), int(entry.split(b"-")[0]) / 1000)
        last = f"({entries[-1][0].decode()}"
    return found


async def answered(client: Any, evidence: Evidence, patience: float, *, since: float = 0.0, whole: bool = True) -> bool:
    """Wait until every sent request has an answer and, if ``whole``, nothing is pending or unread on any stream."""
    deadline = time.monotonic() + patience
    kinds = (PredictionCompleted, PredictionFailed)
    first = f"{max(0, int(since * 1000) - 60_000)}-0"
    position: dict[Any, Any] = {stream_key(client.namespace, k.type_name(), PIPELINE): first for k in kinds}
    waiting = set(evidence.sent)
    while time.monotonic() < deadline:
        try:
            reply: Any = await client.bus.redis.xread(dict(position), count=2000, block=100)
            for name, entries in reply.items() if isinstance(reply, dict) else reply or ():
                for entry, fields in entries:
                    position[name.decode()] = entry.decode()
                    waiting.discard(json.loads(fields[FIELD.encode()])["data"]["prediction_id"])
            if not waiting and not reply and (not whole or await quiet(client)):
                return True
        except (RedisError, OSError):
            await asyncio.sleep(0.1)
    return False


async def quiet(client: Any) -> bool:
    """Whether no group has anything pending or unread, on any stream."""
    async for key in client.bus.redis.scan_iter(match="*tidemill*", count=500, _type="stream"):
        newest = await client.bus.redis.xrevrange(key, count=1)
        for group in await client.bus.redis.xinfo_groups(key):
            if group["pending"] or (newest and group["last-delivered-id"] != newest[0][0]):
                return False
    return True
