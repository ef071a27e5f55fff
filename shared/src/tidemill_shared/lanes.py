"""The data plane: the streams of many pipelines, read in one loop, each pipeline in a lane of its own."""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.streams import stream_key
from tidemill_shared import telemetry
from tidemill_shared.delivery import Completion, Delivery, Mailbox, subject_of
from tidemill_shared.halts import Halts
from tidemill_shared.lane import Lane, OnBatch, OnStale
from tidemill_shared.log import logger
from tidemill_shared.raw import call
from tidemill_shared.settings import DeliverySettings
from tidemill_shared.tasks import end

log = logger(__name__)
_READ_LIMIT = 8_192
"""Entries of all streams together in one read, or one of each where there are more streams than that."""
_BLOCK_SECONDS = 0.5
"""Short, so that a pipeline declared meanwhile is not kept waiting."""
_GLANCE_SECONDS = 0.005
"""While one lane is full the others are glanced at this often, rather than waited for."""
_DRAIN_SECONDS = 5.0
_FIELD = FIELD.encode()


class Lanes:
    """Reads every pipeline's streams of the given types; what arrived while a batch was handled is the next batch.

    The next entries are read while a batch is handled. With ``ahead`` the next batches are even handled meanwhile, and
    their answers written in order: for handlers without a state of their own.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        settings: DeliverySettings,
        events: Sequence[type[Event[Any]]],
        on_batch: OnBatch,
        *,
        max_records: int,
        on_stale: OnStale | None,
        ahead: bool = False,
        halts: Halts | None = None,
    ) -> None:
        self._mailbox = mailbox
        self._halts = halts
        self._settings = settings
        self.events = tuple(events)
        self._on_batch = on_batch
        self._on_stale = on_stale
        self._max_records = max_records
        self._ahead = ahead
        self._lanes: dict[str, Lane] = {}
        self._by_stream: dict[bytes, tuple[Lane, str, str]] = {}
        self._changed = asyncio.Event()
        self._workers: set[asyncio.Task[None]] = set()

    async def add(self, pipeline: str) -> None:
        """Serve one more pipeline from now on."""
        if pipeline in self._lanes:
            return
        streams = tuple(stream_key(self._mailbox.namespace, e.type_name(), pipeline) for e in self.events)
        await self._mailbox.open(streams)
        lane = Lane(
            pipeline,
            streams,
            self._mailbox,
            self._on_batch,
            on_stale=self._on_stale,
            max_records=self._max_records,
            ahead=self._ahead,
            spawn=self._spawn,
            on_room=self._changed.set,
        )
        self._lanes[pipeline] = lane
        for event, stream in zip(self.events, streams, strict=True):
            self._by_stream[stream.encode()] = (lane, stream, event.type_name())
        self._changed.set()

    def streams(self) -> list[str]:
        """The streams read, as far as pipelines are known."""
        return [stream for lane in self._lanes.values() for stream in lane.streams]

    def start(self) -> list[asyncio.Task[None]]:
        """The loops, as tasks."""
        return [
            asyncio.create_task(self._read(), name="lanes"),
            asyncio.create_task(self._reclaim(), name="lanes-reclaim"),
        ]

    async def stop(self) -> None:
        """Once nothing is read any more: let what is held be handled, for a while, then leave it pending."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _DRAIN_SECONDS
        while self._workers and loop.time() < until:
            await asyncio.wait(self._workers, timeout=until - loop.time())
        await end(self._workers)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._workers.add(task)
        task.add_done_callback(self._workers.discard)
        return task

    async def _read(self) -> None:
        while True:
            self._changed.clear()
            lanes = [lane for lane in self._lanes.values() if not lane.full and not lane.closed]
            streams = [stream for lane in lanes for stream in lane.streams if not self._halted(stream)]
            crowded = any(lane.full for lane in self._lanes.values())
            if not streams:
                await self._change(_BLOCK_SECONDS)
                continue
            try:
                patience = 0.0 if crowded else min(self._settings.block_seconds, _BLOCK_SECONDS)
                found, deep = await self._fetch(streams, patience)
                if deep and len(deep) < len(streams):
                    await self._fetch(deep, 0.0)  # a busy few among idle many get batches of a full size too
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                log.error("consumer group has vanished; making it again", why=str(error))
                await self._mailbox.open(self.streams())
            except RedisError as error:
                log.warning("cannot read", why=str(error))
                await asyncio.sleep(self._settings.block_seconds)
            else:
                if crowded and not found:
                    await self._change(_GLANCE_SECONDS)

    async def _change(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def _halted(self, stream: str) -> bool:
        return self._halts is not None and stream in self._halts.streams

    async def _fetch(self, streams: Sequence[str], block_seconds: float) -> tuple[bool, list[str]]:
        """Put what has arrived into its lanes; whether there was anything, and the streams that may have more."""
        count = min(self._max_records, max(1, _READ_LIMIT // len(streams)))
        block = ("BLOCK", int(block_seconds * 1000)) if block_seconds else ()
        command = ("XREADGROUP", "GROUP", self._mailbox.group, self._mailbox.consumer, "COUNT", count, *block)
        reply = await call(self._mailbox.redis, *command, "STREAMS", *streams, *[">"] * len(streams))
        deep: list[str] = []
        for name, entries in reply.items() if isinstance(reply, dict) else reply or ():
            lane, stream, type_ = self._by_stream[name]
            lane.put([Delivery(stream, type_, entry.decode(), _body(fields)) for entry, fields in entries])
            if len(entries) >= count:
                deep.append(stream)
        return bool(reply), deep

    async def _reclaim(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 4)
            for lane in list(self._lanes.values()):
                try:
                    await self._keep(lane)
                    for stream in () if lane.closed else lane.streams:
                        if not self._halted(stream):
                            await self._take_over(lane, stream)
                except RedisError as error:
                    log.warning("cannot look for abandoned entries", pipeline=lane.pipeline, why=str(error))

    async def _keep(self, lane: Lane) -> None:
        """What waits is ours as much as what is being handled."""
        if not lane.waiting:
            return
        lost = set(await self._mailbox.renew(lane.waiting))
        if lost:
            lane.waiting = [d for d in lane.waiting if d.entry not in lost]

    async def _take_over(self, lane: Lane, stream: str) -> None:
        taken = await self._mailbox.reclaim(stream, count=self._max_records)
        if not taken:
            return
        telemetry.counter("tidemill.events.reclaimed").add(len(taken), {"type": taken[0].type})
        tired = [d for d in taken if d.deliveries > self._settings.max_deliveries]
        if tired:
            await self._give_up(tired)
        lane.put([d for d in taken if d.deliveries <= self._settings.max_deliveries])

    async def _give_up(self, tired: list[Delivery]) -> None:
        log.error("entries given up", pipeline=subject_of(tired[0].stream, self._mailbox.namespace), entries=len(tired))
        dead = [(d, "deliveries", f"given up after {d.deliveries - 1} deliveries") for d in tired]
        try:
            await self._mailbox.complete(Completion(dead=dead))
        except RedisError as error:
            log.warning("cannot set entries aside", why=str(error))


def _body(fields: list[bytes] | None) -> bytes:
    """Our field's bytes; without it an empty body, which parses to nothing and is set aside."""
    if fields and fields[0] == _FIELD:
        return fields[1]
    pairs = fields or []
    return dict(zip(pairs[::2], pairs[1::2], strict=False)).get(_FIELD, b"")
