"""Commands of many words, packed and read by hiredis alone.

redis-py's asyncio client packs each word in Python and converts each entry of a reply, which for a batch of hundreds of
events costs more than all that Redis itself does with them.
"""

from typing import Any

import hiredis
from redis.asyncio import Redis


async def call(redis: Redis, *words: str | bytes | int | float) -> Any:
    """The reply as it came: bytes, integers, lists (under RESP3 also dicts). Raises redis errors; repeats nothing."""
    pool = redis.connection_pool
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        # Either of the two closes the connection when it is cut short, so that no reply is left in it.
        await connection.send_packed_command(hiredis.pack_command(words))  # type: ignore[arg-type]
        return await connection.read_response()
    finally:
        await pool.release(connection)
