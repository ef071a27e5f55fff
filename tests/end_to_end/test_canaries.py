"""Words that must not get out, sent through the whole loop: no secret and no cell of a row in logs, events, processes.

Every service runs under its own user of Redis and, through a gate, its own policy for the object store.
"""

import asyncio
import contextlib
import json
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from faultkit.fleet import SERVICES, Client, Fleet
from gateway import Gateway

from tidemill_console.commands.data import publish_file
from tidemill_console.commands.declare import declare_pipeline
from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.events import (
    DatasetPrepared,
    DatasetRejected,
    EventDeadLettered,
    LabelObserved,
    ModelDeployed,
    PredictionCompleted,
    PredictionFailed,
    PredictionRequested,
)
from tidemill_contracts.pipeline import PipelineSpec, RowPolicy, SearchPolicy
from tidemill_contracts.prediction import ObservedLabel, RequestedPrediction
from tidemill_contracts.registry import EVENTS, InvalidEvent, parse_as
from tidemill_contracts.streams import dead_letter_key, stream_key
from tidemill_shared.store_permissions import RULES, policy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
CANARY = "kanarie" + secrets.token_hex(6)
SECRET_NUMBER = 8_427_193.375
SPEC = PipelineSpec(
    name="birds",
    task="classification",
    target="y",
    positive="yes",
    primary="accuracy",
    keys=("id",),
    exclude=("id",),
    rows=RowPolicy(min_rows=50),
    search=SearchPolicy(families=("linear",), trials=1, seconds=5),
)


class Policed(Fleet):
    """A fleet in which each service meets the gate of its own policy before the object store."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        rules = {rule.user: policy(rule, "tidemill") for rule in RULES}
        self.gates = {name: Gateway(self.store_port, rules[name]) for name in self._replicas}

    async def start(self) -> None:
        for gate in self.gates.values():
            await gate.start()
        await super().start()

    async def add(self, name: str, number: int) -> None:
        async with self.client():  # makes the bucket, which no service may
            await super().add(name, number)

    def environment(self, name: str, number: int) -> dict[str, str]:
        told = {
            "TIDEMILL_STORE__ENDPOINT": f"127.0.0.1:{self.gates[name].port}",
            "TIDEMILL_DELIVERY__ARCHIVE_SECONDS": "1",
        }
        return super().environment(name, number) | told

    async def stop(self) -> None:
        await super().stop()
        for gate in self.gates.values():
            gate.stop()


async def wait_for(client: Client, kind: type[Event[Any]], count: int = 1) -> list[Any]:
    """At least ``count`` events of a kind."""
    stream = stream_key(client.namespace, kind.type_name(), "birds" if kind.plane == "data" else None)
    deadline = asyncio.get_running_loop().time() + 60
    while True:
        entries: Any = await client.bus.redis.xrange(stream)
        found = []
        for _, fields in entries:
            with contextlib.suppress(InvalidEvent):  # what this test sent itself
                found.append(parse_as(kind, fields[FIELD.encode()]))
        if len(found) >= count:
            return found
        assert asyncio.get_running_loop().time() < deadline, f"{len(found)} of {count} {kind.type_name()}"
        await asyncio.sleep(0.05)


def files(folder: Path) -> list[Path]:
    """Rows with canaries in them: sound ones with some bad cells, and files that are refused for what is in a cell."""
    good = [
        f"{CANARY}-{i},{i % 97},{CANARY}{'red' if i % 3 else 'blue'},{'yes' if i % 97 > 48 else 'no'}"
        for i in range(300)
    ]
    bad = [f"{CANARY}-x{i},{CANARY},{CANARY}red,yes" for i in range(5)]
    contents = {
        "good.csv": "\n".join(["id,x,colour,y", *good, *bad, f"{CANARY}-y,{SECRET_NUMBER},{CANARY}red,yes"]),
        "ragged.csv": "\n".join(["id,x,colour,y", *good[:60], f"{CANARY},{CANARY}"]),
        "quoted.csv": "\n".join(["id,x,colour,y", *good[:60], f'"{CANARY}']),
        "broken.jsonl": f'{{"id": "{CANARY}", "x": {SECRET_NUMBER}, "colour": {CANARY}}}\n',
        "nested.jsonl": f'{{"id": {{"{CANARY}": ["{CANARY}"]}}, "x": 1, "colour": "a", "y": "yes"}}\n' * 60,
        "other.csv": "\n".join(["another,header", *[f"{CANARY},{CANARY}2"] * 60]),
    }
    for name, content in contents.items():
        (folder / name).write_text(content + "\n")
    (folder / "fake.parquet").write_bytes(b"PAR1" + CANARY.encode() * 20 + b"PAR1")
    return [folder / name for name in (*contents, "fake.parquet")]


def asked(number: int, features: dict[str, Any]) -> bytes:
    """A request, features of any shape."""
    empty = RequestedPrediction(features={})
    event = PredictionRequested.root(empty, subject="birds", source="urn:test", id=f"canary-{number}")
    return event.to_json().replace(b'"features":{}', b'"features":' + json.dumps(features).encode())


async def the_loop(fleet: Fleet, client: Client, folder: Path) -> None:
    """Data, a model, predictions of every kind, labels, and what is not even an event, all with canaries."""
    await declare_pipeline(client, SPEC)  # type: ignore[arg-type]  # has what is needed of a client
    good, *refused = files(folder)
    await publish_file(client, "birds", good, ".csv", "good")  # type: ignore[arg-type]
    await wait_for(client, ModelDeployed)
    for file in refused:
        await publish_file(client, "birds", file, file.suffix, file.stem)  # type: ignore[arg-type]
    rows = [
        {"x": 5, "colour": f"{CANARY}red"},
        {"x": SECRET_NUMBER, "colour": f"{CANARY}never seen"},
        {"x": CANARY, "colour": f"{CANARY}red"},
        {"x": [CANARY], "colour": {CANARY: 1}},
        {f"{CANARY}column": 1},
    ]
    requests = stream_key(client.namespace, PredictionRequested.type_name(), "birds")
    for number, row in enumerate(rows):
        await client.bus.redis.xadd(requests, {FIELD: asked(number, row)})
    await client.bus.publish(
        LabelObserved.root(ObservedLabel(prediction_id="canary-0", label=CANARY), subject="birds", source="urn:test")
    )
    for type_, cls in EVENTS.items():
        stream = stream_key(client.namespace, type_, "birds" if cls.plane == "data" else None)
        if set(cls.consumers) & set(SERVICES):
            wrong = {"type": type_, "specversion": "1.0", "id": CANARY * 9, "data": {"value": CANARY, "uri": CANARY}}
            for body in (CANARY.encode(), json.dumps(wrong).encode(), b'{"' + CANARY.encode()):
                await client.bus.redis.xadd(stream, {FIELD: body})
    await asyncio.to_thread(over_http, fleet)
    await wait_for(client, PredictionCompleted)
    await wait_for(client, PredictionFailed, 4)
    await wait_for(client, EventDeadLettered, 30)
    deadline = asyncio.get_running_loop().time() + 60
    while len(await wait_for(client, DatasetRejected)) + len(await wait_for(client, DatasetPrepared)) < 1 + len(
        refused
    ):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.1)


async def outcomes(client: Client) -> list[Any]:
    return [*await wait_for(client, DatasetRejected), *await wait_for(client, DatasetPrepared)]


def over_http(fleet: Fleet) -> None:
    """Requests with a key, and with what is none."""
    base = f"http://127.0.0.1:{fleet._http['serving-1']}/v2/models/birds"
    bodies = [
        json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [CANARY]}]}).encode(),
        b'{"' + CANARY.encode(),
    ]
    for key in (fleet.credentials.api_key("reader").read_text(), CANARY):
        for body in bodies:
            httpx.post(f"{base}/infer", content=body, headers={"Authorization": f"Bearer {key}"}, timeout=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canaries")


@contextlib.asynccontextmanager
async def after_the_loop(folder: Path) -> AsyncIterator[tuple[Policed, Client]]:
    async with Policed.running(folder) as fleet, fleet.client() as client:
        await the_loop(fleet, client, folder)
        yield fleet, client


async def test_nothing_gets_out_and_every_service_lives_within_its_policies(folder: Path) -> None:
    async with after_the_loop(folder) as (fleet, client):
        assert {name: gate.refused for name, gate in fleet.gates.items()} == {name: [] for name in fleet.gates}
        hidden = fleet.secrets()
        assert len(hidden) == 16
        logs = contents(folder, "*.log")
        assert len(logs) >= 8
        assert sum(map(len, logs.values())) > 5_000
        events = await said(client)
        objects = contents(folder / "store", "**/*")
        assert len(objects) > 20
        processes = looks(fleet)
    for name, secret in hidden.items():
        for place, text in {**logs, **events, **objects, **processes}.items():
            own = place == "store environ" and name == "store/secret-key"  # the S3 server takes it from nowhere else
            assert own or secret not in text, f"{name} is in {place}"
    cell = re.compile(rb"%s|8[_,.]?427[_,.]?193" % CANARY.encode(), re.IGNORECASE)
    for place, text in {**logs, **events, **processes}.items():
        found = cell.search(text)
        assert not found, f"a cell is in {place}: {text[max(0, found.start() - 300) : found.end() + 100]!r}"  # type: ignore[union-attr]


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob(pattern) if file.is_file()}


async def said(client: Client) -> dict[str, bytes]:
    """What Tidemill itself wrote into streams, by stream; what producers sent in, and its letters, hold their rows."""
    found: dict[str, bytes] = {}
    async for raw in client.bus.redis.scan_iter(match="*", count=1000, _type="stream"):
        name = raw.decode()
        entries: Any = await client.bus.redis.xrange(raw)
        bodies = [fields.get(FIELD.encode(), b"") for _, fields in entries]
        if name != dead_letter_key(client.namespace):
            ours = [b for b in bodies if b'"source":"urn:test"' not in b and not unread(b)]
            found[name] = b"\n".join(ours)
    assert len(found) > 10
    return found


def unread(body: bytes) -> bool:
    """Whether this is one of the bodies that are no event."""
    try:
        return json.loads(body).get("id") == CANARY * 9
    except ValueError:
        return True


def looks(fleet: Fleet) -> dict[str, bytes]:
    """Command line and environment of each process and its children, as anybody on the machine may see the first."""
    found: dict[str, bytes] = {}
    for name, process in {**fleet.servers, **fleet.services}.items():
        assert process._running
        root = psutil.Process(process._running.pid)
        for member in (root, *root.children(recursive=True)):
            for what in ("cmdline", "environ"):
                place = f"{name} {what}"
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    found[place] = found.get(place, b"") + Path(f"/proc/{member.pid}/{what}").read_bytes()
    assert all(found[f"{name} cmdline"] for name in fleet.services)
    return found
