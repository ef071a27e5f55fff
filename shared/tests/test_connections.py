"""A task that speaks to Redis ends when it is cancelled, wherever it is."""

import asyncio

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from tidemill_shared.connections import Cancellable, CancellableTLS, connection_class
from tidemill_shared.testing.platform import Platform


async def test_a_cancelled_task_ends_at_whatever_moment(platform: Platform) -> None:
    async def ask() -> None:
        while True:
            await platform.redis.ping()

    for moment in range(200):
        task = asyncio.create_task(ask())
        for _ in range(moment % 50):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled(), moment
    assert await platform.redis.ping()


async def test_a_server_that_reads_nothing_is_not_waited_for_long() -> None:
    holding = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await holding.wait()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0, limit=1024) as server:
        port = server.sockets[0].getsockname()[1]
        connection = Cancellable(port=port, socket_timeout=0.2, protocol=2, driver_info=None)
        with pytest.raises(RedisTimeoutError, match="writing"):
            await connection.send_packed_command(bytes(64 * 1024**2))
        assert not connection.is_connected
        holding.set()


def test_an_encrypted_url_has_encrypted_connections() -> None:
    assert connection_class("redis://127.0.0.1:6379/0") is Cancellable
    assert connection_class("rediss://127.0.0.1:6379/0") is CancellableTLS
