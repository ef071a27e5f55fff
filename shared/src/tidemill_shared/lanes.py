"""The data plane: batches from the streams of many pipelines, read in one loop."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from tidemill_contracts.envelope import Event
from tidemill_contracts.streams import stream_key
from tidemill_shared import telemetry
from tidemill_shared.delivery import Completion, Delivery, Mailbox, delivery_of, subject_of
from tidemill_shared.errors import LeaseLost, Retryable, StaleState
from tidemill_shared.log import logger
from tidemill_shared.settings import DeliverySettings

log = logger(__name__)
OnBatch = Callable[[str, list[Delivery]], Awaitable[Completion]]
OnStale = Callable[[str], Awaitable[None]]
_STALE_ATTEMPTS = 5


class Lanes:
    """Reads every pipeline's streams of the given types; what arrived while a batch was handled is the next batch."""

    def __init__(
        self,
        mailbox: Mailbox,
        settings: DeliverySettings,
        events: Sequence[type[Event[Any]]],
        on_batch: OnBatch,
        *,
        max_records: int,
        on_stale: OnStale | None,
    ) -> None:
        self._mailbox = mailbox
        self._settings = settings
        self.events = tuple(events)
        self._on_batch = on_batch
        self._on_stale = on_stale
        self._max_records = max_records
        self._streams: dict[str, str] = {}
        self._added = asyncio.Event()
        # One batch a pipeline at a time, whether freshly read or taken over.
        self._turns: dict[str, asyncio.Lock] = {}

    async def add(self, pipeline: str) -> None:
        """Serve one more pipeline from now on."""
        streams = [stream_key(self._mailbox.namespace, e.type_name(), pipeline) for e in self.events]
        await self._mailbox.open(streams)
        self._turns.setdefault(pipeline, asyncio.Lock())
        self._streams |= dict.fromkeys(streams, pipeline)
        self._added.set()

    def streams(self) -> list[str]:
        """The streams read, as far as pipelines are known."""
        return list(self._streams)

    def start(self) -> list[asyncio.Task[None]]:
        """The loops, as tasks."""
        return [
            asyncio.create_task(self._read(), name="lanes"),
            asyncio.create_task(self._reclaim(), name="lanes-reclaim"),
        ]

    async def _read(self) -> None:
        while True:
            if not self._streams:
                self._added.clear()
                await self._added.wait()
            try:
                reply: Any = await self._mailbox.redis.xreadgroup(
                    self._mailbox.group,
                    self._mailbox.consumer,
                    dict.fromkeys(self._streams, ">"),
                    count=self._max_records,
                    # Short, so that a pipeline declared meanwhile is not kept waiting.
                    block=int(min(self._settings.block_seconds, 0.5) * 1000),
                )
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                log.error("consumer group has vanished; making it again", why=str(error))
                await self._mailbox.open(self._streams)
                continue
            except RedisError as error:
                log.warning("cannot read", why=str(error))
                await asyncio.sleep(self._settings.block_seconds)
                continue
            batches: dict[str, list[Delivery]] = {}
            for name, entries in reply.items() if isinstance(reply, dict) else reply or ():
                stream = name.decode()
                batch = batches.setdefault(self._streams[stream], [])
                batch += [delivery_of(stream, entry, fields or {}) for entry, fields in entries]
            await asyncio.gather(*(self._handle(pipeline, batch) for pipeline, batch in batches.items()))

    async def _handle(self, pipeline: str, batch: list[Delivery]) -> None:
        """Never raises: what could not be done stays pending."""
        async with self._turns[pipeline]:
            try:
                async with self._mailbox.lease(batch):
                    await self._work(pipeline, batch)
            except LeaseLost as error:
                log.warning("batch dropped: no longer ours", pipeline=pipeline, why=str(error))
            except (Retryable, StaleState, RedisError) as error:
                log.warning("batch left pending, will be retried", pipeline=pipeline, why=str(error))
            except Exception:
                log.error("batch failed, will be retried", exc_info=True, pipeline=pipeline)

    async def _work(self, pipeline: str, batch: list[Delivery]) -> None:
        for _ in range(_STALE_ATTEMPTS):
            completion = await self._on_batch(pipeline, batch)
            try:
                refused = await self._mailbox.complete(completion)
            except StaleState:
                refused = []
            else:
                nothing_done = bool(refused) and bool(completion.writes or completion.guard or completion.dead)
                if refused:
                    log.warning("answers dropped: entries no longer ours", pipeline=pipeline, entries=len(refused))
                if not nothing_done:
                    return
            # The state we computed on is not the state that is: forget it, drop what is no longer ours, repeat.
            if self._on_stale:
                await self._on_stale(pipeline)
            gone = {(d.stream, d.entry) for d in refused}
            batch = [d for d in batch if (d.stream, d.entry) not in gone]
            if not batch:
                return
        raise StaleState(f"{pipeline}: the state kept changing under {_STALE_ATTEMPTS} attempts")

    async def _reclaim(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 4)
            for stream, pipeline in list(self._streams.items()):
                try:
                    taken = await self._mailbox.reclaim(stream, count=self._max_records)
                except RedisError as error:
                    log.warning("cannot look for abandoned entries", stream=stream, why=str(error))
                    continue
                if not taken:
                    continue
                telemetry.counter("tidemill.events.reclaimed").add(len(taken), {"type": taken[0].type})
                tired = [d for d in taken if d.deliveries > self._settings.max_deliveries]
                fresh = [d for d in taken if d.deliveries <= self._settings.max_deliveries]
                if tired:
                    await self._give_up(tired)
                if fresh:
                    await self._handle(pipeline, fresh)

    async def _give_up(self, tired: list[Delivery]) -> None:
        log.error("entries given up", pipeline=subject_of(tired[0].stream, self._mailbox.namespace), entries=len(tired))
        dead = [(d, "deliveries", f"given up after {d.deliveries - 1} deliveries") for d in tired]
        try:
            await self._mailbox.complete(Completion(dead=dead))
        except RedisError as error:
            log.warning("cannot set entries aside", why=str(error))
