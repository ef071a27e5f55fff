"""New entries of the streams of one hash slot, which one command can read together; of one Redis these are all."""

import asyncio
import contextlib
from collections.abc import Sequence

from redis.exceptions import AskError, ClusterError, RedisError, ResponseError

from tidemill_contracts.envelope import FIELD, MAX_EVENT_BYTES
from tidemill_shared.delivery import Delivery, Mailbox
from tidemill_shared.halts import Halts
from tidemill_shared.lane import Lane
from tidemill_shared.log import logger
from tidemill_shared.raw import call
from tidemill_shared.settings import DeliverySettings

log = logger(__name__)
_READ_LIMIT = 8_192
"""Entries of all streams together in one read, or one of each where there are more streams than that."""
_READ_BYTES = 4 * 1024**2
"""Of a stream in one read, if its entries are as large as those of the last one: a table is worth many requests."""
_ALL_BYTES = 32 * 1024**2
"""The same of all streams together."""
_BLOCK_SECONDS = 0.5
"""Short, so that a pipeline declared meanwhile is not kept waiting."""
_GLANCE_SECONDS = 0.005
"""While one lane is full the others are glanced at this often, rather than waited for."""
_FIELD = FIELD.encode()


class Reader:
    """Puts what arrives into the lanes that have room for it."""

    def __init__(
        self, mailbox: Mailbox, settings: DeliverySettings, *, max_records: int, halts: Halts | None = None
    ) -> None:
        self._mailbox = mailbox
        self._settings = settings
        self._max_records = max_records
        self._halts = halts
        self._lanes: list[Lane] = []
        self._by_stream: dict[bytes, tuple[Lane, str, str]] = {}
        self._changed = asyncio.Event()
        self._entry_bytes = MAX_EVENT_BYTES  # until one has been seen
        self._busy: dict[str, int] = {}
        """Streams that had no less than their share when they were last read, and may have more, with the bytes of an
        entry of theirs: others are read between, and may be small."""

    def add(self, lane: Lane) -> None:
        """Read this lane's streams too from now on."""
        self._lanes.append(lane)
        for stream in lane.streams:
            self._by_stream[stream.encode()] = (lane, stream, stream.rpartition("}:")[2])
        self._changed.set()

    def look_again(self) -> None:
        """A lane may have room."""
        self._changed.set()

    async def run(self) -> None:
        """Never returns."""
        while True:
            self._changed.clear()
            lanes = [lane for lane in self._lanes if not lane.full and not lane.closed]
            streams = [stream for lane in lanes for stream in lane.streams if not self._halted(stream)]
            crowded = any(lane.full for lane in self._lanes)
            if not streams:
                await self._change(_BLOCK_SECONDS)
                continue
            try:
                patience = 0.0 if crowded else min(self._settings.block_seconds, _BLOCK_SECONDS)
                found = await self._read(streams, patience)
            except RedisError as error:
                await self._recover(error)
            else:
                if crowded and not found:
                    await self._change(_GLANCE_SECONDS)

    async def _recover(self, error: RedisError) -> None:
        """Raises the error when it will not pass."""
        passing = not isinstance(error, ResponseError) or isinstance(error, (AskError, ClusterError))
        if "NOGROUP" in str(error):
            log.error("consumer group has vanished; making it again", why=str(error))
            with contextlib.suppress(RedisError):
                await self._mailbox.open(stream for lane in self._lanes for stream in lane.streams)
        elif passing:
            log.warning("cannot read", why=str(error))
            await asyncio.sleep(self._settings.block_seconds)
        else:
            raise error

    async def _change(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _halted(self, stream: str) -> bool:
        return self._halts is not None and stream in self._halts.streams

    async def _read(self, streams: Sequence[str], block_seconds: float) -> bool:
        """Put what has arrived into its lanes; whether there was anything.

        A busy few among idle many are read apart from them, or the share of one among many would be all that a batch
        of theirs has.
        """
        busy = [stream for stream in streams if stream in self._busy]
        idle = [stream for stream in streams if stream not in self._busy]
        if not busy or not idle or self._share(busy) < 2 * self._share(streams):
            return await self._fetch(streams, block_seconds)
        # At the same time: each may have to wait until Redis has written a batch.
        found = await asyncio.gather(self._fetch(idle, 0.0), self._fetch(busy, 0.0), return_exceptions=True)
        for error in found:
            if isinstance(error, BaseException):
                raise error
        return any(found)

    def _share(self, streams: Sequence[str]) -> int:
        """Entries of each in one read of them all."""
        size = max([self._entry_bytes, *[self._busy[stream] for stream in streams if stream in self._busy]])
        of_all = min(_READ_LIMIT, _ALL_BYTES // size) // len(streams)
        return max(1, min(self._max_records, of_all, _READ_BYTES // size))

    async def _fetch(self, streams: Sequence[str], block_seconds: float) -> bool:
        count = self._share(streams)
        block = ("BLOCK", int(block_seconds * 1000)) if block_seconds else ()
        command = ("XREADGROUP", "GROUP", self._mailbox.group, self._mailbox.consumer, "COUNT", count, *block)
        redis = self._mailbox.nodes.of(streams[0])
        reply = await call(redis, *command, "STREAMS", *streams, *[">"] * len(streams))
        for stream in streams:
            self._busy.pop(stream, None)
        size = entries_read = 0
        for name, entries in reply.items() if isinstance(reply, dict) else reply or ():
            lane, stream, type_ = self._by_stream[name]
            deliveries = [
                # The first field is ours in nearly all, which then cost no call.
                Delivery(stream, type_, entry.decode(), fields[1] if fields and fields[0] == _FIELD else _body(fields))
                for entry, fields in entries
            ]
            lane.put(deliveries)
            read = sum([len(delivery.body) for delivery in deliveries])
            size += read
            entries_read += len(deliveries)
            if len(entries) >= count:
                self._busy[stream] = max(1, read // len(entries))
        if entries_read:
            self._entry_bytes = max(1, size // entries_read)
        return bool(reply)


def _body(fields: list[bytes] | None) -> bytes:
    """Our field's bytes; without it an empty body, which parses to nothing and is set aside."""
    pairs = fields or []
    return dict(zip(pairs[::2], pairs[1::2], strict=False)).get(_FIELD, b"")
