"""What a broken connection does to the kit: answers that are lost or spoilt on their way."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

import pytest
from faultkit.proxy import Proxy

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.envelope import FIELD
from tidemill_shared.delivery import Mailbox
from tidemill_shared.errors import ChecksumMismatch, StoreUnavailable
from tidemill_shared.settings import Settings
from tidemill_shared.store import Store
from tidemill_shared.testing.platform import Platform


async def test_bytes_that_are_spoilt_on_their_way_are_read_again(platform: Platform) -> None:
    ref = await platform.store.put("raw/demo/a.bin", b"hello" * 100)
    proxy = Proxy(platform.servers.store_port)
    await proxy.start()
    settings = platform.settings(Settings).store.model_copy(update={"endpoint": f"127.0.0.1:{proxy.port}"})
    store = Store(settings)
    try:
        proxy.faults.flip_next = 2
        assert await store.get(ref) == b"hello" * 100
        assert proxy.faults.flip_next == 0
        proxy.faults.flip_next = 3
        with pytest.raises(ChecksumMismatch):
            await store.get(ref)
        wrong = ArtifactRef(key=ref.key, sha256=hashlib.sha256(b"other").hexdigest(), size=ref.size)
        with pytest.raises(ChecksumMismatch):
            await store.get(wrong)
    finally:
        store.close()
        await proxy.stop()


async def test_an_object_whose_digest_nobody_knows_is_checked_too(platform: Platform) -> None:
    await platform.store.put("inbox/a.json", b'{"accepted":true}' * 10)
    proxy = Proxy(platform.servers.store_port)
    await proxy.start()
    store = Store(platform.settings(Settings).store.model_copy(update={"endpoint": f"127.0.0.1:{proxy.port}"}))
    try:
        proxy.faults.flip_next = 2
        assert await store.read("inbox/a.json") == b'{"accepted":true}' * 10
        assert proxy.faults.flip_next == 0
        proxy.faults.flip = 1.0
        with pytest.raises(StoreUnavailable):
            await store.read("inbox/a.json")
    finally:
        store.close()
        await proxy.stop()


async def test_what_the_dead_left_is_taken_over_in_one_claim(platform: Platform) -> None:
    """One a round trip: with an answer in twenty lost, a hundred entries would hardly ever be taken over."""
    redis, stream = platform.redis, f"{{{platform.namespace}}}:data.arrived.v1"
    dead, heir = (Mailbox(redis, platform.namespace, "g", name, 0.05) for name in ("dead", "heir"))
    await dead.open([stream])
    for _ in range(100):
        await redis.xadd(stream, {FIELD: b"{}"})
    await redis.xreadgroup("g", "dead", {stream: ">"}, count=100)
    while len(await redis.xpending_range(stream, "g", "-", "+", 100, idle=50)) < 100:
        await asyncio.sleep(0.01)
    before = await _claims(platform)
    taken = await heir.reclaim(stream, 100)
    assert len(taken) == 100
    assert all(d.deliveries == 2 for d in taken)
    assert await _claims(platform) - before == 1


class Echo(asyncio.Protocol):
    """Answers with what it is sent."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(data)


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[Proxy]:
    """Before a server that answers with what it is sent."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    proxy = Proxy(server.sockets[0].getsockname()[1])
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
        server.close()


class Line:
    """A connection through a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, proxy: Proxy) -> AsyncIterator["Line"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(self, text: bytes) -> bytes:
        """The answer, empty when the connection has ended."""
        try:
            self._writer.write(text)
            await self._writer.drain()
            return await asyncio.wait_for(self._reader.readline(), 30)
        except ConnectionError:
            return b""


async def test_who_is_refused_gets_no_answer_on_old_and_new_connections() -> None:
    async with echo() as proxy:
        async with Line.to(proxy) as old:
            assert await old.ask(b"hello\n") == b"hello\n"
            proxy.faults.refuse = True
            assert await old.ask(b"hello\n") == b""
        async with Line.to(proxy) as new:
            assert await new.ask(b"hello\n") == b""
        proxy.faults.refuse = False
        async with Line.to(proxy) as next_one:
            assert await next_one.ask(b"hello\n") == b"hello\n"


async def test_what_goes_into_a_black_hole_comes_out_when_it_ends() -> None:
    async with echo() as proxy, Line.to(proxy) as line:
        assert await line.ask(b"hello\n") == b"hello\n"
        proxy.faults.blackhole = True
        asking = asyncio.create_task(line.ask(b"again\n"))
        done, _ = await asyncio.wait([asking], timeout=0.3)
        assert not done
        proxy.faults.blackhole = False
        assert await asking == b"again\n"


async def test_a_throttled_connection_is_no_faster_than_it_may_be() -> None:
    async with echo() as proxy, Line.to(proxy) as line:
        proxy.faults.bytes_per_second = 10_000
        begun = asyncio.get_running_loop().time()
        assert len(await line.ask(b"x" * 1_999 + b"\n")) == 2_000
        # Two thousand bytes there and back: there is no machine on which that is sooner.
        assert asyncio.get_running_loop().time() - begun > 0.35


async def _claims(platform: Platform) -> int:
    stats = await platform.redis.info("commandstats")
    return int(stats.get("cmdstat_xclaim", {}).get("calls", 0))
