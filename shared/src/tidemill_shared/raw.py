"""Commands of many words, packed and read by hiredis alone, on connections that are kept at hand.

redis-py's asyncio client packs each word in Python and converts each entry of a reply, which for a batch of hundreds of
events costs more than all that Redis itself does with them; and what its pool and its timeouts do around a command
costs more than a small batch.
"""

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

import hiredis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import TimeoutError as RedisTimeoutError

_MOST_KEPT = 8
"""Of a client's connections; what else is at work at once goes back to the pool."""
_kept: "WeakKeyDictionary[ConnectionPool, list[AbstractConnection]]" = WeakKeyDictionary()


async def call(redis: Redis, *words: str | bytes | int | float) -> Any:
    """The reply as it came: bytes, integers, lists (under RESP3 also dicts). Raises redis errors; repeats nothing."""
    pool = redis.connection_pool
    seconds = pool.connection_kwargs.get("socket_timeout")
    kept = _kept.setdefault(pool, [])
    connection = kept.pop() if kept else await pool.get_connection()  # type: ignore[no-untyped-call]
    # One timeout for the whole costs less than the connection's own, one for each part.
    connection.socket_timeout = None
    try:
        async with asyncio.timeout(seconds):
            if connection.is_connected and await connection.can_read():
                await connection.disconnect(nowait=True)  # the server closed it while it was kept
            # Either of the two closes the connection when it is cut short, so that no reply is left in it; and the
            # first opens it when it is closed.
            await connection.send_packed_command(hiredis.pack_command(words))  # type: ignore[arg-type]
            reply = await connection.read_response()
    except TimeoutError:
        await _give_back(pool, connection, seconds)
        raise RedisTimeoutError(f"no answer within {seconds} s") from None
    except BaseException:
        await _give_back(pool, connection, seconds)
        raise
    if len(kept) < _MOST_KEPT:
        kept.append(connection)
    else:
        await _give_back(pool, connection, seconds)
    return reply


async def _give_back(pool: ConnectionPool, connection: AbstractConnection, seconds: float | None) -> None:
    connection.socket_timeout = seconds
    await pool.release(connection)
