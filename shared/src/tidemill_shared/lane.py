"""One pipeline's lane: a waiting room, and a batch or a few in flight, which leave in order."""

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from redis.exceptions import RedisError

from tidemill_shared import history
from tidemill_shared.delivery import Completion, Delivery, Later, Mailbox
from tidemill_shared.errors import LeaseLost, Retryable, StaleState
from tidemill_shared.log import logger
from tidemill_shared.room import when_there_is_room

log = logger(__name__)
OnBatch = Callable[[str, list[Delivery]], Awaitable[Completion]]
OnStale = Callable[[str], Awaitable[None]]
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
_STALE_ATTEMPTS = 5
_AHEAD = 4
"""Batches in flight: one is read, one is at the model (which leaves Python alone), one waits until the one before it
has been written."""
_WORTH_OVERLAPPING = 32
"""Events that wait. Fewer wait for the batch in flight: what comes one by one would else be handled one by one, which
costs each as much as a batch of several, and at a few thousand a second keeps the next ones waiting."""
_BATCH_BYTES = 2 * 1024**2
"""Of a batch's events together: one event may hold hundreds of rows."""
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
        self._in_flight = _AHEAD if ahead else 1
        self._spawn = spawn
        self._on_room = on_room
        self._flying: deque[asyncio.Task[None]] = deque()
        self._scheduled = False
        self._failures = 0
        self._closed_until = 0.0

    @property
    def full(self) -> bool:
        """Whether a whole batch is waiting, or two of large events: there is no use in reading more."""
        return len(self.waiting) >= self._max_records or sum([len(d.body) for d in self.waiting]) >= 2 * _BATCH_BYTES

    @property
    def closed(self) -> bool:
        """Whether its last batches have all failed: what is pending is left alone for a while."""
        return self._failures >= _FAILURES and asyncio.get_running_loop().time() < self._closed_until

    def put(self, deliveries: Iterable[Delivery]) -> None:
        """Entries we hold now; handled in this order, in batches of what has gathered."""
        self.waiting += deliveries
        self._advance_soon()

    def _advance_soon(self) -> None:
        """Not at once: what comes from several streams in one read is one batch."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._advance)

    def _advance(self) -> None:
        self._scheduled = False
        while self.waiting and len(self._flying) < self._room_in_flight():
            batch = self._next()
            self._on_room()
            flight = self._spawn(self._handle(batch, self._flying[-1] if self._flying else None))
            self._flying.append(flight)
            flight.add_done_callback(self._landed)

    def _room_in_flight(self) -> int:
        """Batches that may be in flight with what waits now."""
        return self._in_flight if len(self.waiting) >= min(_WORTH_OVERLAPPING, self._max_records) else 1

    def _landed(self, flight: "asyncio.Task[None]") -> None:
        self._flying.remove(flight)
        self._advance()

    def _next(self) -> list[Delivery]:
        """A batch off the waiting room: as many as may be, and no more bytes than may be but for the first."""
        taken = size = 0
        for delivery in self.waiting[: self._max_records]:
            size += len(delivery.body)
            if taken and size > _BATCH_BYTES:
                break
            taken += 1
        batch, self.waiting = self.waiting[:taken], self.waiting[taken:]
        return batch

    async def _handle(self, batch: list[Delivery], before: "asyncio.Task[None] | None") -> None:
        await self._hold(batch, functools.partial(self._work, batch, before))

    async def _hold(self, batch: list[Delivery], work: Callable[[], Awaitable[None]]) -> None:
        """Never raises: what could not be done stays pending."""
        try:
            async with self._mailbox.lease(batch):
                await work()
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

    async def _work(self, batch: list[Delivery], before: "asyncio.Task[None] | None") -> None:
        history.record("read", batch)
        for _ in range(_STALE_ATTEMPTS):
            completion = await when_there_is_room(functools.partial(self._on_batch, self.pipeline, batch))
            if before and not before.done():  # answers leave in the order of their requests
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
                    if completion.later:
                        finish = functools.partial(self._finish, completion.later)
                        self._spawn(self._hold(completion.later.deliveries, finish))
                    return
            # The state we computed on is not the state that is: forget it, drop what is no longer ours, repeat.
            if self._on_stale:
                await self._on_stale(self.pipeline)
            gone = {(d.stream, d.entry) for d in refused}
            batch = [d for d in batch if (d.stream, d.entry) not in gone]
            if not batch:
                return
        raise StaleState(f"{self.pipeline}: the state kept changing under {_STALE_ATTEMPTS} attempts")

    async def _finish(self, later: Later) -> None:
        """What the batch did not wait for."""
        refused = await self._mailbox.complete(await when_there_is_room(later.completion))
        if refused:
            log.warning("answers dropped: entries no longer ours", pipeline=self.pipeline, entries=len(refused))

    def _failed(self) -> None:
        self._failures += 1
        if self._failures < _FAILURES:
            return
        seconds = min(2.0 ** (self._failures - _FAILURES), _CLOSED_SECONDS)
        self._closed_until = asyncio.get_running_loop().time() + seconds
        log.warning("lane closed for a while", pipeline=self.pipeline, failures=self._failures, seconds=seconds)
