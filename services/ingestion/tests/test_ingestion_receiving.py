"""New rows over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis.exceptions import ConnectionError as Away

from tidemill_contracts.artifacts import inbox_key
from tidemill_contracts.dataset import Outcome
from tidemill_contracts.events import DataArrived
from tidemill_contracts.pipeline import PipelineSpec, RowPolicy
from tidemill_ingestion.app import build
from tidemill_ingestion.settings import IngestionGroup, IngestionSettings
from tidemill_shared.service import Service
from tidemill_shared.testing.platform import Platform

SPEC = PipelineSpec(
    name="games", task="classification", target="won", positive=True, primary="f1", rows=RowPolicy(min_rows=30)
)
CSV = {"content-type": "text/csv; charset=utf-8"}
WHERE = "/v1/pipelines/games/data"


def table(count: int) -> bytes:
    rows = [f"{i}.5,{'home' if i % 3 else 'away'},{'true' if i % 2 else 'false'}" for i in range(count)]
    return "\n".join(["points,where,won", *rows, ""]).encode()


@pytest.fixture
async def service(platform: Platform) -> AsyncIterator[Service]:
    await platform.declare(SPEC)
    group = IngestionGroup(max_uploads=2)
    settings = platform.settings(IngestionSettings, ingestion=group, http={"max_body_bytes": 100_000})
    async with platform.running(build(settings)) as running:
        yield running


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as opened:
        yield opened


async def outcome(client: httpx.AsyncClient, where: str) -> Outcome:
    async with asyncio.timeout(20):
        while True:
            found = (await client.get(where)).json()["outcome"]
            if found:
                return Outcome.model_validate(found)
            await asyncio.sleep(0.02)


async def test_an_upload_is_accepted_once_under_its_key(platform: Platform, client: httpx.AsyncClient) -> None:
    headers = CSV | {"idempotency-key": "monday-1"}
    first = await client.post(WHERE, content=table(60), headers=headers)
    assert (first.status_code, first.json()) == (202, {"event": "monday-1"})
    made = (await outcome(client, first.headers["location"])).prepared
    assert made is not None
    assert made.new_rows == 60
    again = await client.post(WHERE, content=table(60), headers=headers)
    assert (again.status_code, again.json()) == (202, {"event": "monday-1"})
    other = await client.post(WHERE, content=table(50), headers=headers)
    assert other.status_code == 422
    assert "monday-1" in other.json()["error"]
    bodies = {e.to_json() for e in await platform.events(DataArrived)}
    assert len(bodies) == 1  # the event that was accepted, however often
    unnamed = await client.post(WHERE, content=table(90), headers=CSV)
    made = (await outcome(client, unnamed.headers["location"])).prepared
    assert made is not None
    assert (made.sequence, made.new_rows) == (2, 30)


@pytest.mark.parametrize(
    ("status", "where", "headers", "body"),
    [
        (404, "/v1/pipelines/nobody/data", CSV, b"a,b\n1,2\n"),
        (404, "/v1/pipelines/No%20Name/data", CSV, b"a,b\n1,2\n"),
        (415, WHERE, {"content-type": "application/octet-stream"}, b"a,b\n1,2\n"),
        (415, WHERE, CSV | {"content-encoding": "br"}, b"a,b\n1,2\n"),
        (400, WHERE, CSV | {"idempotency-key": "../../etc"}, b"a,b\n1,2\n"),
        (400, WHERE, CSV, b""),
        (413, WHERE, CSV, b"x" * 100_001),
        (405, "/v1/arrivals/x", CSV, b"a"),
    ],
)
async def test_what_is_refused_is_not_accepted(
    platform: Platform, client: httpx.AsyncClient, status: int, where: str, headers: dict[str, str], body: bytes
) -> None:
    refused = await client.post(where, content=body, headers=headers)
    assert refused.status_code == status
    assert await platform.store.list("inbox/") == []


async def test_a_body_that_does_not_say_how_long_it_is_is_cut_too(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 1000

    assert (await client.post(WHERE, content=endless(), headers=CSV)).status_code == 413


async def test_who_comes_when_there_is_no_room_is_told_when_to_come_back(
    platform: Platform, client: httpx.AsyncClient, service: Service
) -> None:
    used = int((await platform.redis.info("memory"))["used_memory"])
    await platform.redis.config_set("maxmemory", int(used / 2))
    try:
        refused = await client.post(WHERE, content=table(60), headers=CSV)
    finally:
        await platform.redis.config_set("maxmemory", 0)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert "full" in refused.json()["error"]
    assert await platform.store.list("inbox/") == []

    async with asyncio.timeout(10):
        while (await client.post(WHERE, content=table(60), headers=CSV)).status_code != 202:
            await asyncio.sleep(0.02)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield table(60)
        begun.set()
        await go_on.wait()

    uploads = []
    for _ in range(2):
        begun.clear()
        uploads.append(asyncio.create_task(client.post(WHERE, content=slow(), headers=CSV)))
        await begun.wait()
    async with asyncio.timeout(10):
        while (refused := await client.post(WHERE, content=table(60), headers=CSV)).status_code != 429:
            await asyncio.sleep(0.02)
    assert int(refused.headers["retry-after"]) >= 1
    go_on.set()
    assert [(await upload).status_code for upload in uploads] == [202, 202]


async def test_accepted_does_not_depend_on_redis(
    platform: Platform, client: httpx.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise Away("gone")

    monkeypatch.setattr(service.bus.room, "check", away)
    answer = await client.post(WHERE, content=table(60), headers=CSV | {"idempotency-key": "stormy"})
    assert answer.status_code == 202
    assert await platform.events(DataArrived) == []
    assert await platform.store.read(inbox_key("stormy")) is not None
    assert (await client.get("/v1/arrivals/stormy")).json() == {"event": "stormy", "outcome": None}
    assert (await client.get("/v1/arrivals/nobody")).status_code == 404
