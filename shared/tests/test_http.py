"""HTTP over real sockets: pieces of an answer, requests in a row, routes past the framework."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tidemill_shared.direct import Direct
from tidemill_shared.guard import Door, guarded
from tidemill_shared.health import build_server
from tidemill_shared.http_wire import Joining
from tidemill_shared.settings import HttpSettings


class Wire:
    """What a transport would have sent, write by write."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_head_and_body_leave_together_and_nothing_is_held_beyond_a_turn() -> None:
    wire: Any = Wire()
    joining = Joining(wire)
    joining.write(b"head")
    assert wire.sent == []
    joining.write(b"body")
    assert wire.sent == [b"headbody"]
    joining.write(b"head of an answer without a body")
    await asyncio.sleep(0)
    assert wire.sent == [b"headbody", b"head of an answer without a body"]
    joining.write(b"last")
    joining.write(b"")
    joining.write(b"words")
    joining.close()
    assert wire.sent[2:] == [b"last", b"words"] and joining.is_closing()
    await asyncio.sleep(0)
    assert len(wire.sent) == 4


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Says who was asked, and breaks for one of them."""
    name = scope["path_params"]["name"]
    if name == "broken":
        raise RuntimeError("a fault")
    await receive()
    body = f"direct {name}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def served(release: asyncio.Event) -> AsyncIterator[int]:
    async def slowly(_: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            await release.wait()
            yield b"second"

        return StreamingResponse(parts())

    async def refused(_: Request) -> Response:
        raise HTTPException(418, "no")

    async def healthy() -> None:
        return None

    class Endpoint:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await answer(scope, receive, send)

    routes = [Direct("/ask/{name}/now", Endpoint()), Route("/slowly", slowly), Route("/refused", refused)]
    server = build_server("test", "127.0.0.1", 0, healthy, guarded(routes, Door(HttpSettings()), "predict"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


def asking(path: str, method: str = "GET", host: str = "127.0.0.1") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


async def read_answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head.split(b"\r\n")[0], await asyncio.wait_for(reader.readexactly(length), 5)


async def test_requests_in_a_row_are_answered_in_their_order() -> None:
    async with served(asyncio.Event()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(asking(f"/ask/{i}/now") for i in range(20)) + asking("/livez") + asking("/refused"))
        for i in range(20):
            assert await read_answer(reader) == (b"HTTP/1.1 200 OK", f"direct {i}".encode())
        assert await read_answer(reader) == (b"HTTP/1.1 200 OK", b'{"service":"test","status":"live"}')
        assert await read_answer(reader) == (b"HTTP/1.1 418 I'm a Teapot", b'{"error":"no"}')
        writer.close()


async def test_what_is_ready_does_not_wait_for_the_rest() -> None:
    release = asyncio.Event()
    async with served(release) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asking("/slowly"))
        assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert await asyncio.wait_for(reader.readuntil(b"first\r\n"), 5)
        release.set()
        assert (await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)).endswith(b"second\r\n0\r\n\r\n")
        writer.write(asking("/ask/x/now", "HEAD"))  # plain ASGI answers a HEAD as it likes; uvicorn drops the body
        assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.close()


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/ask/x/now", "127.0.0.1", b"200"),
        ("/ask/x/now?much=1", "localhost", b"200"),
        ("/ask/x/now", "example.org", b"403"),
        ("/ask/broken/now", "127.0.0.1", b"500"),
        ("/ask/x/y/now", "127.0.0.1", b"404"),
        ("/ask//now", "127.0.0.1", b"404"),
        ("/ask/x/nowhere", "127.0.0.1", b"404"),
    ],
)
async def test_a_direct_route_stays_behind_the_door(path: str, host: str, status: bytes) -> None:
    async with served(asyncio.Event()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asking(path, host=host))
        head, _ = await read_answer(reader)
        assert head.split()[1] == status
        writer.close()
