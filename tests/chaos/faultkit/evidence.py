"""What a run left behind: its requests, every entry of every stream, every object."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from faultkit.timeline import Step
from tidemill_contracts.dead_letter import DeadLetter
from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.registry import EVENTS, InvalidEvent, parse
from tidemill_contracts.streams import dead_letter_key, stream_key


@dataclass(frozen=True)
class Answer:
    """An entry of a result stream. ``at`` is Redis's own time in seconds."""

    at: float
    id: str
    prediction_id: str
    model_version: str | None
    body: bytes


@dataclass
class Evidence:
    """Everything the checker looks at; nothing of it is what a service says of itself."""

    sent: set[str] = field(default_factory=set)
    """Ids of prediction requests whose publication was acknowledged."""
    answers: list[Answer] = field(default_factory=list)
    events: list[Event[Any]] = field(default_factory=list)
    """Of the control plane, in the order of their streams."""
    published_at: dict[str, float] = field(default_factory=dict)
    """Redis's time of the first entry of each event id."""
    dead: Counter[bytes] = field(default_factory=Counter)
    """Bodies in the dead letters."""
    dead_reasons: Counter[str] = field(default_factory=Counter)
    """How many of them by reason, "" where a letter gives none."""
    pending: dict[str, int] = field(default_factory=dict)
    """Entries that a group has not acknowledged, by ``stream group``."""
    vanished: int = 0
    """Pending entries that their stream no longer holds."""
    untaken: list[str] = field(default_factory=list)
    """Each ``stream group`` from which entries were taken away unread."""
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every object in the store."""
    documents: dict[str, bytes] = field(default_factory=dict)
    """The JSON objects among them."""
    poison: Counter[bytes] = field(default_factory=Counter)
    """Malformed bodies that were published on purpose."""
    faults_at: list[float] = field(default_factory=list)
    before: dict[str, str] = field(default_factory=dict)
    """Objects that were there before a total loss of Redis."""
    redis_lost_at: float = 0.0
    """What was under way then need not be finished."""
    steps: list[Step] = field(default_factory=list)
    """The services' own histories."""
    killed: list[int] = field(default_factory=list)
    """Processes that died at a step of their own, of which the recovery is read from the histories."""
    longest_recovery: float | None = None
    """Seconds that may pass until the work of such a process is taken up."""
    complaints: list[str] = field(default_factory=list)
    """Violations that the scenario saw itself, each with the invariant's number."""
    figures: dict[str, float] = field(default_factory=dict)
    """What else was measured."""
    logs: str = ""
    canaries: tuple[str, ...] = ()
    """What must not be in a log or a control event."""


async def collect(client: Any, pipeline: str, evidence: Evidence, since: float = 0.0) -> Evidence:
    """Read streams and store into ``evidence``; answers from ``since`` on, everything else from the beginning."""
    redis = client.bus.redis
    first = f"{max(0, int(since * 1000) - 60_000)}-0" if since else "-"
    for kind, cls in EVENTS.items():
        stream = stream_key(client.namespace, kind, pipeline if cls.plane == "data" else None)
        if kind in ("prediction.completed.v1", "prediction.failed.v1"):
            evidence.answers += [_answer(entry, fields) async for entry, fields in _entries(redis, stream, first)]
        elif cls.plane == "control":
            async for entry, fields in _entries(redis, stream):
                try:
                    event = parse(fields.get(FIELD.encode(), b""))
                except InvalidEvent:
                    continue
                evidence.events.append(event)
                evidence.published_at.setdefault(event.id, _seconds(entry))
    async for key in redis.scan_iter(match=f"{{{client.namespace}*", count=500, _type="stream"):
        await _groups(redis, key.decode(), evidence)
    evidence.pending = await pending(client)
    async for _, fields in _entries(redis, dead_letter_key(client.namespace)):
        evidence.dead[fields[FIELD.encode()]] += 1
        evidence.dead_reasons[reason_of(fields.get(b"letter", b""))] += 1
    await _objects(client.store, evidence)
    return evidence


async def pending(client: Any) -> dict[str, int]:
    """Entries that a group has not acknowledged, by ``stream group``."""
    redis, found = client.bus.redis, {}
    async for key in redis.scan_iter(match=f"{{{client.namespace}*", count=500, _type="stream"):
        for group in await redis.xinfo_groups(key):
            if group["pending"]:
                found[f"{key.decode()} {group['name'].decode()}"] = group["pending"]
    return found


async def _objects(store: Any, evidence: Evidence) -> None:
    keys = await store.list("")
    for start in range(0, len(keys), 16):
        several = keys[start : start + 16]
        for key, data in zip(several, await asyncio.gather(*(store.read(k) for k in several)), strict=True):
            evidence.digests[key] = hashlib.sha256(data or b"").hexdigest()
            if key.endswith(".json"):
                evidence.documents[key] = data or b""


async def _entries(redis: Any, stream: str, first: str = "-") -> Any:
    last = first
    while found := await redis.xrange(stream, min=last, count=5000):
        for entry, fields in found:
            yield entry, fields
        last = f"({found[-1][0].decode()}"


def reason_of(letter: bytes) -> str:
    """Why an event was given up, "" when its letter does not say."""
    try:
        found = DeadLetter.from_json(letter)
    except ValueError:
        return ""
    return found.reason if found.message else ""


async def _groups(redis: Any, stream: str, evidence: Evidence) -> None:
    told = await redis.xinfo_stream(stream)
    for group in await redis.xinfo_groups(stream):
        name = group["name"].decode()
        unread = await redis.xrange(stream, min=f"({group['last-delivered-id'].decode()}")
        if untaken(told, group, len(unread)):
            evidence.untaken.append(f"{stream} {name}")
        if group["pending"]:
            for entry in await redis.xpending_range(stream, name, "-", "+", 1000):
                evidence.vanished += not await redis.xrange(stream, entry["message_id"], entry["message_id"])


def untaken(stream: Mapping[str, Any], group: Mapping[str, Any], unread: int) -> bool:
    """Whether entries left a stream before a group had them: what it had and what waits for it is not all there ever
    was. Redis counts both from 7.0 on; before, only a stream that is empty tells of what nobody had."""
    ever, had = stream.get("entries-added"), group.get("entries-read")
    if ever is not None and had is not None:
        return bool(had + unread < ever)
    return not unread and _parts(group["last-delivered-id"]) < _parts(stream["last-generated-id"])


def _parts(entry: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in entry.split(b"-"))


def _seconds(entry: bytes) -> float:
    return int(entry.split(b"-")[0]) / 1000


def _answer(entry: bytes, fields: dict[bytes, bytes]) -> Answer:
    body = fields[FIELD.encode()]
    event = parse(body)
    return Answer(_seconds(entry), event.id, event.data.prediction_id, event.data.model_version, body)
