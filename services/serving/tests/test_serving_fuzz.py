"""Whatever is sent to any route: an answer below 500, an error with a sentence, and the service goes on.

``TIDEMILL_FUZZ_CASES`` says how many (``make fuzz``), ``TIDEMILL_FUZZ_SEED`` which.
"""

import asyncio
import copy
import json
import os
import random
from collections import Counter
from typing import Any

import httpx
import pytest

from tidemill_shared.service import Service
from tidemill_shared.testing.surface import paths

CASES = int(os.environ.get("TIDEMILL_FUZZ_CASES", "1000"))
SEED = int(os.environ.get("TIDEMILL_FUZZ_SEED", "1"))
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "NONSENSE")
WORDS = (
    "sales",
    "nothing",
    "a" * 12,
    "..",
    "%2e%2e",
    "%00",
    "%ff",
    "Ä",
    "x" * 500,
    "",
    "{name}",
    "infer",
    "sales%2Finfer",
)
SOUND: dict[str, Any] = {
    "id": "1",
    "parameters": {},
    "inputs": [
        {"name": "height", "datatype": "FP32", "shape": [2], "data": [1.5, None]},
        {"name": "weight", "datatype": "FP32", "shape": [2], "data": [1.5, 2]},
        {"name": "colour", "datatype": "BYTES", "shape": [2], "data": ["red", "green"]},
    ],
    "outputs": [{"name": "prediction"}],
}
JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 2**70, 1e308, -0.0, "", "x" * 5000, [], {}, [[]], [[1], [2, 3]], {"a": {"a": {}}}, "\ud800",
    "FP64",
    "INT64", "BOOL", [2**40, 2**40], [-1], [0], float("nan"), float("inf"), "binary_data_size", {"binary_data_size": 9},
)  # fmt: skip
HEADERS: tuple[dict[str, str], ...] = (
    {}, {"Content-Type": "application/json"}, {"Content-Type": "text/plain; charset=zz"}, {"Content-Encoding": "gzip"},
    {"Inference-Header-Content-Length": "10"}, {"Inference-Header-Content-Length": "-1"}, {"Accept": "x/y;q=z"},
    {"Inference-Header-Content-Length": "9" * 30}, {"traceparent": "00-zz"}, {"Range": "bytes=9-1"},
    {"Cookie": "\x7f=;;"},
    {"Idempotency-Key": "../../x"}, {"X-Request-Id": "x" * 4000}, {"Expect": "200-maybe"},
    {"Origin": "http://elsewhere"},
)  # fmt: skip


def _nodes(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [here for key, part in items for here in ((*at, key), *_nodes(part, (*at, key)))]


def body(r: random.Random) -> bytes:
    """A sound request, or one with up to three things wrong in it, or no JSON at all."""
    how = r.randrange(10)
    if how == 0:
        return r.choice([b"", b"{", b"\xff", b"null", b"[]", b"[" * 30_000, b'{"inputs":' * 5_000, r.randbytes(200)])
    tree = json.loads(json.dumps(SOUND))
    for _ in range(r.randint(0, 3)):
        at = _nodes(tree)
        if not at:
            break
        *way, last = r.choice(at)
        parent = tree
        for key in way:
            parent = parent[key]
        if r.random() < 0.2:
            del parent[last]
        else:
            parent[last] = copy.deepcopy(r.choice(JUNK))
    data = json.dumps(tree).encode()
    return data[: r.randrange(len(data))] if how == 1 else data


def target(r: random.Random, known: list[str]) -> str:
    """A path: mostly one that exists, with a pipeline that does."""
    path = r.choice(known)
    while "{" in path:
        head, _, rest = path.partition("{")
        path = head + r.choice(("sales", "sales", *WORDS)).replace("{", "(") + rest.partition("}")[2]
    if r.random() < 0.1:
        path += r.choice(("/", "//", "?x=1", "?x=%ff&x", "/..", "/" + r.choice(WORDS).replace("{", "(")))
    return path


@pytest.mark.timeout(900)
async def test_no_request_brings_it_down(running: tuple[Service, str]) -> None:
    service, key = running
    known = sorted({*paths(list(service._routes)), "/livez", "/readyz", "/", "/v2/models/sales/infer"})
    seen: Counter[str] = Counter()
    pace = asyncio.Semaphore(16)
    base = f"http://127.0.0.1:{service.port}"

    async def one(client: httpx.AsyncClient, r: random.Random) -> None:
        # Most go where most can go wrong.
        infer = r.random() < 0.5
        method = "POST" if infer else r.choice(METHODS)
        path = "/v2/models/sales/infer" if infer else target(r, known)
        content, headers = body(r), {"Authorization": f"Bearer {key}"} | r.choice(HEADERS)
        async with pace:
            try:
                answer = await client.request(method, base + path, content=content, headers=headers)
            except (httpx.InvalidURL, httpx.RemoteProtocolError, httpx.UnsupportedProtocol):
                seen["not sent or cut off"] += 1
                return
        if answer.text == "Invalid HTTP request received.":  # it never came to a route
            seen["no HTTP"] += 1
            return
        seen[f"{answer.status_code // 100}xx"] += 1
        assert answer.status_code < 500, (answer.status_code, method, path, content[:500], answer.text[:300])
        assert "Traceback" not in answer.text
        if answer.status_code == 400 and path.startswith("/v2") and method != "HEAD":
            assert answer.json()["error"], (method, path)

    r = random.Random(SEED)  # noqa: S311 - test data
    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=16)) as client:
        for _ in range(0, CASES, 500):
            await asyncio.gather(*(one(client, random.Random(r.random())) for _ in range(min(500, CASES))))  # noqa: S311 - test data
        sound = await client.post(
            f"{base}/v2/models/sales/infer", json=SOUND, headers={"Authorization": f"Bearer {key}"}
        )
        ready = await client.get(f"{base}/readyz")
    print(f"seed {SEED}: {sum(seen.values())} requests on {len(known)} paths: {dict(sorted(seen.items()))}")
    assert (sound.status_code, ready.status_code) == (200, 200), sound.text
    assert seen["2xx"] > CASES // 50
    assert seen["4xx"] > CASES // 5
    assert seen["not sent or cut off"] < CASES // 10


async def test_no_route_but_health_answers_without_a_key(running: tuple[Service, str]) -> None:
    service, key = running
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as client:
        assert [(await client.get(path)).status_code for path in ("/livez", "/readyz")] == [200, 200]
        for path in paths(list(service._routes)):
            filled = path.replace("{name}", "sales").replace("{version}", "a" * 12)
            for headers in ({}, {"Authorization": f"Bearer {key}x"}):
                statuses = {(await client.request(m, filled, headers=headers)).status_code for m in ("GET", "POST")}
                assert statuses <= {401, 405}, (path, statuses)
                assert 401 in statuses, path


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET /" + b"x" * 200_000, b"POST /v2 HTTP/1.1\r\n\r\n",
        b"POST /v2/models/sales/infer HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", b"\r\n" * 5_000,
        b"\x00" * 100,
        b"POST /v2/models/sales/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", b"GET",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
        b"POST /v2/models/sales/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    ],
)  # fmt: skip
async def test_what_is_not_even_http_is_cut_off(running: tuple[Service, str], raw: bytes) -> None:
    service, _ = running
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(raw)
    writer.write_eof()
    try:
        answer = await asyncio.wait_for(reader.read(65536), 20)
    except ConnectionError:
        answer = b""
    writer.close()
    assert not answer or answer.split(b" ")[1][:1] == b"4", answer[:200]
    async with httpx.AsyncClient(timeout=60) as client:
        assert (await client.get(f"http://127.0.0.1:{service.port}/livez")).status_code == 200


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX-A: ", b"POST /v2/models/sales/infer HTTP/1.1\r\n"])
async def test_a_head_without_an_end_is_cut_off(running: tuple[Service, str], start: bytes) -> None:
    service, _ = running
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(start)
    more = b"X-A: b\r\n" * 1_000 if start.endswith(b"\n") else b"x" * 8_000
    try:
        for _ in range(100):
            writer.write(more)
            await writer.drain()
        answer = await asyncio.wait_for(reader.read(65536), 20)
    except ConnectionError:
        answer = b""
    writer.close()
    assert not answer or answer.startswith(b"HTTP/1.1 400"), answer[:200]
