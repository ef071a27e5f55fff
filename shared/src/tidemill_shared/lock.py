"""A lease by name: serialises work on one thing across replicas."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tidemill_shared.errors import LeaseLost, Retryable
from tidemill_shared.scripts import EXTEND, RELEASE, Script

_RELEASE = Script(RELEASE)
_EXTEND = Script(EXTEND)


@contextlib.asynccontextmanager
async def hold(redis: Redis, key: str, *, lease_seconds: float, patience_seconds: float) -> AsyncIterator[None]:
    """Hold ``key`` while the body runs; a lost lease cancels the body and raises LeaseLost.

    Raises Retryable when somebody else holds it for longer than ``patience_seconds``.
    """
    token = secrets.token_hex(16)
    lease_ms = int(lease_seconds * 1000)
    deadline = time.monotonic() + patience_seconds
    while not await redis.set(key, token, nx=True, px=lease_ms):
        if time.monotonic() > deadline:
            raise Retryable(f"{key} is held by another worker")
        await asyncio.sleep(0.05)
    holder = asyncio.current_task()
    lost = False

    async def keep() -> None:
        nonlocal lost
        while True:
            await asyncio.sleep(lease_seconds / 3)
            try:
                lost = not await _EXTEND(redis, [key], [token, lease_ms])
            except RedisError:
                continue
            if lost and holder is not None:
                holder.cancel()
                return

    keeper = asyncio.create_task(keep())
    try:
        yield
    except asyncio.CancelledError:
        if lost:
            if holder is not None:
                holder.uncancel()
            raise LeaseLost(f"{key}: another worker took the lock over") from None
        raise
    finally:
        keeper.cancel()
        if not lost:
            with contextlib.suppress(RedisError):
                await _RELEASE(redis, [key], [token])
