"""What a service keeps of a pipeline in Redis, copied to the object store now and then: a lost Redis takes it along."""

import hashlib
import time
from typing import Any

from tidemill_contracts.artifacts import state_copy_key
from tidemill_contracts.streams import state_key
from tidemill_shared.bus import Bus
from tidemill_shared.store import Store


class StateCopies:
    """The latest copy of each pipeline's state.

    A copy is no record: the next one takes its place, and it is read only where Redis has nothing. It is at most
    ``every_seconds`` and one look older than the state. Replicas may write at the same time: each writes what Redis
    holds. What was copied stands in Redis beside the states, so that a start does not copy all of them again.
    """

    def __init__(self, bus: Bus, store: Store, service: str, every_seconds: float) -> None:
        self._redis = bus.redis
        self._store = store
        self._namespace = bus.namespace
        self._service = service
        self._every = every_seconds
        self._marks = state_key(bus.namespace, service, "copied")
        """Hash: by pipeline the digest of the mark of what was copied."""
        self._latest: dict[str, tuple[float, bytes]] | None = None
        """The same, and when this process copied it (monotonic seconds; long ago if another one did)."""

    async def due(self, pipeline: str, mark: bytes) -> bool:
        """Whether the state has changed since the last copy, of some time ago; ``mark`` changes with the state.

        Raises redis errors.
        """
        at, copied = (await self._known()).get(pipeline, (-self._every, b""))
        return _digest(mark) != copied and time.monotonic() - at >= self._every

    async def write(self, pipeline: str, mark: bytes, data: bytes) -> None:
        """Copy a state. Raises StoreUnavailable, redis errors."""
        await self._store.put(self._key(pipeline), data)
        (await self._known())[pipeline] = time.monotonic(), _digest(mark)
        await self._redis.hset(self._marks, pipeline, _digest(mark))

    async def read(self, pipeline: str) -> bytes | None:
        """The latest copy; None where there is none. Raises StoreUnavailable."""
        return await self._store.read(self._key(pipeline))

    async def _known(self) -> dict[str, tuple[float, bytes]]:
        if self._latest is None:
            marks: Any = await self._redis.hgetall(self._marks)
            self._latest = {pipeline.decode(): (-self._every, mark) for pipeline, mark in marks.items()}
        return self._latest

    def _key(self, pipeline: str) -> str:
        return state_copy_key(self._namespace, pipeline, self._service)


def _digest(mark: bytes) -> bytes:
    return hashlib.blake2b(mark, digest_size=16).hexdigest().encode()
