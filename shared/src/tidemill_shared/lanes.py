"""The data plane: the streams of many pipelines, each pipeline in a lane of its own."""

import asyncio
import itertools
from collections.abc import Coroutine, Sequence
from typing import Any

from redis.exceptions import RedisError

from tidemill_contracts.envelope import Event
from tidemill_contracts.streams import stream_key
from tidemill_shared import telemetry
from tidemill_shared.delivery import Completion, Delivery, Mailbox, subject_of
from tidemill_shared.halts import Halts
from tidemill_shared.lane import Lane, OnBatch, OnStale
from tidemill_shared.log import logger
from tidemill_shared.reading import Reader
from tidemill_shared.settings import DeliverySettings
from tidemill_shared.tasks import end

log = logger(__name__)
_DRAIN_SECONDS = 5.0


class Lanes:
    """Reads every pipeline's streams of the given types; what arrived while a batch was handled is the next batch.

    One loop reads them all, or in a cluster, where a command has one hash slot, one loop a slot.
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
        self._readers: dict[int, Reader] = {}
        self._started = False
        self._workers: set[asyncio.Task[None]] = set()
        self.tasks: list[asyncio.Task[None]] = []

    async def add(self, *pipelines: str) -> None:
        """Serve these pipelines too from now on."""
        new = {p: self._streams(p) for p in pipelines if p not in self._lanes}
        await self._mailbox.open(stream for streams in new.values() for stream in streams)
        for pipeline, streams in new.items():
            if pipeline not in self._lanes:  # nobody else was quicker
                self._open(pipeline, streams)

    def _streams(self, pipeline: str) -> tuple[str, ...]:
        return tuple(stream_key(self._mailbox.namespace, e.type_name(), pipeline) for e in self.events)

    def _open(self, pipeline: str, streams: tuple[str, ...]) -> None:
        reader = self._reader(streams[0])
        lane = Lane(
            pipeline,
            streams,
            self._mailbox,
            self._on_batch,
            on_stale=self._on_stale,
            max_records=self._max_records,
            ahead=self._ahead,
            spawn=self._spawn,
            on_room=reader.look_again,
        )
        self._lanes[pipeline] = lane
        reader.add(lane)

    def _reader(self, stream: str) -> Reader:
        slot = self._mailbox.nodes.slot(stream)
        if slot not in self._readers:
            reader = Reader(self._mailbox, self._settings, max_records=self._max_records, halts=self._halts)
            self._readers[slot] = reader
            if self._started:
                self.tasks.append(asyncio.create_task(reader.run(), name="lanes"))
        return self._readers[slot]

    def streams(self) -> list[str]:
        """The streams read, as far as pipelines are known."""
        return [stream for lane in self._lanes.values() for stream in lane.streams]

    def start(self) -> None:
        """Begin to read."""
        self._started = True
        self.tasks = [asyncio.create_task(reader.run(), name="lanes") for reader in self._readers.values()]
        self.tasks.append(asyncio.create_task(self._reclaim(), name="lanes-reclaim"))

    async def stop(self) -> None:
        """Read no more; let what is held be handled, for a while, then leave it pending."""
        await end(self.tasks)
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

    async def _reclaim(self) -> None:
        for pause in itertools.chain([0.0], itertools.repeat(self._settings.lease_seconds / 4)):
            await asyncio.sleep(pause)
            for lane in list(self._lanes.values()):
                try:
                    await self._keep(lane)
                    await self._mailbox.send_on(lane.streams[0])
                except RedisError as error:
                    log.warning("cannot hold what waits", pipeline=lane.pipeline, why=str(error))
            await self._take_over_abandoned()

    async def _take_over_abandoned(self) -> None:
        halted = self._halts.streams if self._halts else ()
        open_ = {s: lane for lane in self._lanes.values() if not lane.closed for s in lane.streams if s not in halted}
        for stream in await self._mailbox.overdue(open_):
            try:
                await self._take_over(open_[stream], stream)
            except RedisError as error:
                log.warning("cannot take over abandoned entries", stream=stream, why=str(error))

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
