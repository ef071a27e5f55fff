"""Connections to Redis that a cancelled task lets go of.

redis-py sends by ``asyncio.wait_for``, which below Python 3.12 drops a cancellation that arrives when the sending is
done (https://github.com/python/cpython/issues/86296): a loop that is cancelled while it asks Redis goes on for ever.
It makes a task of each command, besides.
"""

import asyncio
from collections.abc import Iterable

from redis.asyncio import Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError


class Cancellable(Connection):
    """Without encryption."""

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Send within ``socket_timeout``; what is cut short closes the connection. Raises redis errors."""
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        if isinstance(command, str):
            command = command.encode()
        writer = self._writer
        assert writer is not None  # noqa: S101 - it is connected
        try:
            async with asyncio.timeout(self.socket_timeout):
                writer.writelines([command] if isinstance(command, bytes) else command)
                await writer.drain()
        except BaseException as error:
            await self.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError("Timeout writing to socket") from None
            if isinstance(error, OSError):
                raise RedisConnectionError(f"Error while writing to socket: {error}") from error
            raise


class CancellableTLS(Cancellable, SSLConnection):
    """With encryption."""


def connection_class(url: str) -> type[Cancellable]:
    """What speaks to a ``redis://`` or a ``rediss://`` URL."""
    return CancellableTLS if url.startswith("rediss:") else Cancellable
