"""What a service keeps of a pipeline in Redis, copied to the object store now and then: a lost Redis takes it along."""

import time

from tidemill_contracts.artifacts import state_copy_key
from tidemill_shared.store import Store


class StateCopies:
    """The latest copy of each pipeline's state.

    A copy is no record: the next one takes its place, and it is read only where Redis has nothing. It is at most
    ``every_seconds`` and one look older than the state. Replicas may write at the same time: each writes what Redis
    holds.
    """

    def __init__(self, store: Store, namespace: str, service: str, every_seconds: float) -> None:
        self._store = store
        self._namespace = namespace
        self._service = service
        self._every = every_seconds
        self._latest: dict[str, tuple[float, bytes]] = {}
        """By pipeline when it was copied by this process (monotonic seconds), and the mark of what was copied."""

    def due(self, pipeline: str, mark: bytes) -> bool:
        """Whether the state has changed since the last copy, of some time ago; ``mark`` changes with the state."""
        at, copied = self._latest.get(pipeline, (-self._every, b""))
        return mark != copied and time.monotonic() - at >= self._every

    async def write(self, pipeline: str, mark: bytes, data: bytes) -> None:
        """Copy a state. Raises StoreUnavailable."""
        await self._store.put(self._key(pipeline), data)
        self._latest[pipeline] = time.monotonic(), mark

    async def read(self, pipeline: str) -> bytes | None:
        """The latest copy; None where there is none. Raises StoreUnavailable."""
        return await self._store.read(self._key(pipeline))

    def _key(self, pipeline: str) -> str:
        return state_copy_key(self._namespace, pipeline, self._service)
