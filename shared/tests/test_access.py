"""The door of HTTP routes: keys, scopes, rates, sizes, and when there must be keys at all."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from tidemill_shared import access
from tidemill_shared.credentials import create
from tidemill_shared.errors import ConfigurationError
from tidemill_shared.guard import COOKIE, Door, Rate, guarded
from tidemill_shared.health import Readiness
from tidemill_shared.settings import HttpSettings


async def echo(request: Request) -> JSONResponse:
    return JSONResponse({"bytes": len(await request.body())})


def client_of(settings: HttpSettings) -> httpx.AsyncClient:
    door = Door(settings)
    inner = Starlette(routes=[Route("/echo", echo, methods=["POST"])])
    routes = [
        *guarded([Mount("/v2", app=inner)], door, "predict"),
        *guarded([Route("/promote", echo, methods=["POST"])], door, "operate"),
    ]
    transport = httpx.ASGITransport(app=Starlette(routes=routes), raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


@pytest.fixture
def installation(tmp_path: Path) -> Any:
    return create(tmp_path / "credentials")


@pytest.fixture
async def client(installation: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(HttpSettings(host="0.0.0.0", keys_file=installation.api_keys, max_body_bytes=2048)) as c:  # noqa: S104
        yield c


def bearer(installation: Any, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {installation.api_key(name).read_text()}"}


def test_keys_are_made_once_and_only_their_user_reads_them(tmp_path: Path) -> None:
    made = create(tmp_path / "credentials")
    before = {p: p.read_bytes() for p in made.directory.rglob("*") if p.is_file()}
    assert {p: p.read_bytes() for p in create(made.directory).directory.rglob("*") if p.is_file()} == before
    assert {oct(p.stat().st_mode & 0o777) for p in before} == {"0o600"}
    digests = made.api_keys.read_text()
    for name in ("producer", "reader", "operator"):
        assert made.api_key(name).read_text() not in digests


async def test_no_key_no_answer(client: httpx.AsyncClient, installation: Any) -> None:
    missing = await client.post("/v2/echo")
    assert (missing.status_code, missing.headers["www-authenticate"]) == (401, 'Bearer realm="tidemill"')
    key = installation.api_key("reader").read_text()
    for header in (f"Bearer {key}x", f"Bearer {key[:-1]}", "Bearer ", f"Basic {key}", "Bearer \udcff", ""):
        answer = await client.post("/v2/echo", headers={"Authorization": header.encode(errors="surrogateescape")})
        assert answer.status_code == 401, header
        assert key[:12] not in answer.text


async def test_a_key_opens_what_its_scopes_say(client: httpx.AsyncClient, installation: Any) -> None:
    statuses = {}
    for name in ("producer", "reader", "operator"):
        headers = bearer(installation, name)
        statuses[name] = [(await client.post(path, headers=headers)).status_code for path in ("/v2/echo", "/promote")]
    assert statuses == {"producer": [403, 403], "reader": [200, 403], "operator": [200, 200]}
    cookie = {"Cookie": f"a=b; {COOKIE}={installation.api_key('reader').read_text()}"}
    assert (await client.post("/v2/echo", headers=cookie)).status_code == 200


async def test_a_body_is_bounded_whatever_its_header_says(client: httpx.AsyncClient, installation: Any) -> None:
    headers = bearer(installation, "reader")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b"x" * 512

    assert (await client.post("/v2/echo", headers=headers, content=b"x" * 2048)).json() == {"bytes": 2048}
    assert (await client.post("/v2/echo", headers=headers, content=b"x" * 2049)).status_code == 413
    assert (await client.post("/v2/echo", headers=headers, content=chunks())).status_code == 413


async def test_too_many_requests_are_told_when_to_come_back(installation: Any) -> None:
    async with client_of(HttpSettings(keys_file=installation.api_keys, rate_per_second=1)) as client:
        headers = bearer(installation, "reader")
        answers = [await client.post("/v2/echo", headers=headers) for _ in range(4)]
        assert [a.status_code for a in answers[:2]] == [200, 200]
        assert answers[3].status_code == 429
        assert int(answers[3].headers["retry-after"]) >= 1
        assert (await client.post("/v2/echo", headers=bearer(installation, "operator"))).status_code == 200


def test_the_rate_is_refilled_and_the_number_of_callers_bounded() -> None:
    rate = Rate(per_second=10)
    assert [rate.take("a", 0.0) for _ in range(20)] == [0.0] * 20
    assert rate.take("a", 0.0) == pytest.approx(0.1)
    assert rate.take("a", 0.1) == 0.0
    for i in range(10_000):
        rate.take(f"caller {i}", 1.0)
    assert len(rate._buckets) <= 4096


async def test_without_keys_a_page_from_elsewhere_reaches_nothing() -> None:
    async with client_of(HttpSettings()) as client:
        assert (await client.post("/v2/echo")).status_code == 200
        for headers in ({"Host": "rebound.example"}, {"Origin": "https://elsewhere.example"}, {"Origin": "null"}):
            assert (await client.post("/v2/echo", headers=headers)).status_code == 403
        for headers in ({"Origin": "http://localhost:8080"}, {"Host": "[::1]:8080"}):
            assert (await client.post("/v2/echo", headers=headers)).status_code == 200


async def test_many_who_ask_for_health_are_one_question_to_redis() -> None:
    asked = []

    async def probe() -> str | None:
        asked.append(1)
        await asyncio.sleep(0)
        return "no" if len(asked) == 1 else None

    readiness = Readiness(probe)
    assert await asyncio.gather(*(readiness.problem() for _ in range(100))) == ["no"] * 100
    assert len(asked) == 1
    deadline = asyncio.get_running_loop().time() + 10
    while await readiness.problem() is not None:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "tidemill.example"])  # noqa: S104
def test_another_address_than_loopback_needs_keys(host: str) -> None:
    with pytest.raises(ConfigurationError, match="TIDEMILL_HTTP__KEYS_FILE"):
        Door(HttpSettings(host=host))


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps([{"name": "a", "sha256": "zz", "scopes": []}])])
def test_a_file_of_keys_that_says_nothing_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match="TIDEMILL_HTTP__KEYS_FILE"):
        access.Keys.read(file)
