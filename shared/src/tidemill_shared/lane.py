"""One pipeline's lane: a waiting room, one batch at the handler, at most one more on its way out."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from redis.exceptions import RedisError

from tidemill_shared import history
from tidemill_shared.delivery import Completion, Delivery, Mailbox
from tidemill_shared.errors import LeaseLost, Retryable, StaleState
from tidemill_shared.log import logger
from tidemill_shared.room import when_there_is_room

log = logger(__name__)
OnBatch = Callable[[str, list[Delivery]], Awaitable[Completion]]
OnStale = Callable[[str], Awaitable[None]]
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
_STALE_ATTEMPTS = 5
_FAILURES = 3
"""Batches in a row that may fail before the lane is closed for a while."""
_CLOSED_SECONDS = 30.0
"""A lane is closed for at most so long."""


class Lane:
    """Takes turns with nobody: what waits here, or fails here, costs other pipelines nothing."""

    def __init__(
        self,
        pipeline: str,
        streams: tuple[str, ...],
        mailbox: Mailbox,
        on_batch: OnBatch,
        *,
        on_stale: OnStale | None,
        max_records: int,
        ahead: bool,
        spawn: Spawn,
        on_room: Callable[[], None],
    ) -> None:
        self.pipeline = pipeline
        self.streams = streams
        self.waiting: list[Delivery] = []
        self._mailbox = mailbox
        self._on_batch = on_batch
        self._on_stale = on_stale
        self._max_records = max_records
        self._ahead = ahead
        self._spawn = spawn
        self._on_room = on_room
        self._drained = True
        self._failures = 0
        self._closed_until = 0.0

    @property
    def full(self) -> bool:
        """Whether a whole batch is waiting: there is no use in reading more."""
        return len(self.waiting) >= self._max_records

    @property
    def closed(self) -> bool:
        """Whether its last batches have all failed: what is pending is left alone for a while."""
        return self._failures >= _FAILURES and asyncio.get_running_loop().time() < self._closed_until

    def put(self, deliveries: Iterable[Delivery]) -> None:
        """Entries we hold now; handled in this order, in batches of what has gathered."""
        self.waiting += deliveries
        if self._drained and self.waiting:
            self._drained = False
            self._spawn(self._drain())

    async def _drain(self) -> None:
        leaving: asyncio.Task[None] | None = None
        while self.waiting:
            batch, self.waiting = self.waiting[: self._max_records], self.waiting[self._max_records :]
            self._on_room()
            computed = asyncio.Event()
            handling = self._spawn(self._handle(batch, computed, leaving))
            if not self._ahead:
                await handling
                continue
            await computed.wait()
            if leaving:
                await leaving
            leaving = handling
        self._drained = True

    async def _handle(
        self, batch: list[Delivery], computed: asyncio.Event, before: "asyncio.Task[None] | None"
    ) -> None:
        """Never raises: what could not be done stays pending."""
        try:
            history.record("read", batch)
            async with self._mailbox.lease(batch):
                await self._work(batch, computed, before)
        except LeaseLost as error:
            log.warning("batch dropped: no longer ours", pipeline=self.pipeline, why=str(error))
        except RedisError as error:
            log.warning("batch left pending, will be retried", pipeline=self.pipeline, why=str(error))
        except (Retryable, StaleState) as error:
            log.warning("batch left pending, will be retried", pipeline=self.pipeline, why=str(error))
            self._failed()
        except Exception:
            log.error("batch failed, will be retried", exc_info=True, pipeline=self.pipeline)
            self._failed()
        else:
            self._failures = 0
        finally:
            computed.set()

    async def _work(self, batch: list[Delivery], computed: asyncio.Event, before: "asyncio.Task[None] | None") -> None:
        for _ in range(_STALE_ATTEMPTS):
            completion = await when_there_is_room(functools.partial(self._on_batch, self.pipeline, batch))
            computed.set()
            if before:  # answers leave in the order of their requests
                await asyncio.wait([before])
            try:
                refused = await self._mailbox.complete(completion)
            except StaleState:
                refused = []
            else:
                nothing_done = bool(refused) and bool(completion.writes or completion.guard or completion.dead)
                if refused:
                    log.warning("answers dropped: entries no longer ours", pipeline=self.pipeline, entries=len(refused))
                if not nothing_done:
                    return
            # The state we computed on is not the state that is: forget it, drop what is no longer ours, repeat.
            if self._on_stale:
                await self._on_stale(self.pipeline)
            gone = {(d.stream, d.entry) for d in refused}
            batch = [d for d in batch if (d.stream, d.entry) not in gone]
            if not batch:
                return
        raise StaleState(f"{self.pipeline}: the state kept changing under {_STALE_ATTEMPTS} attempts")

    def _failed(self) -> None:
        self._failures += 1
        if self._failures < _FAILURES:
            return
        seconds = min(2.0 ** (self._failures - _FAILURES), _CLOSED_SECONDS)
        self._closed_until = asyncio.get_running_loop().time() + seconds
        log.warning("lane closed for a while", pipeline=self.pipeline, failures=self._failures, seconds=seconds)
