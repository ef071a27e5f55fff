"""Taking entries and giving them back: at least once in, effect once out."""

import asyncio
import contextlib
import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
from pydantic_core import from_json
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tidemill_contracts.dead_letter import DeadLetter
from tidemill_contracts.envelope import FIELD, Event, content_id
from tidemill_contracts.events import EventDeadLettered
from tidemill_contracts.names import EVENT_ID_PATTERN
from tidemill_contracts.registry import parse
from tidemill_contracts.streams import dead_letter_key
from tidemill_shared import history
from tidemill_shared.errors import LeaseLost, StaleState
from tidemill_shared.log import logger
from tidemill_shared.nodes import Nodes, nodes_of
from tidemill_shared.outbox import Outbox, Write
from tidemill_shared.room import when_there_is_room
from tidemill_shared.scripts import Script
from tidemill_shared.step import Row, Step

log = logger(__name__)
_COMPLETE = Script.named("complete.lua")
_RENEW = Script.named("renew.lua")
_OVERDUE = Script.named("overdue.lua")
_EVENT_ID = re.compile(EVENT_ID_PATTERN)
_PAGE = 100
_STREAMS = 1_000
"""Asked about together: Redis does nothing else meanwhile."""
_LETTER_REASONS = frozenset(get_args(DeadLetter.model_fields["reason"].annotation))

Output = Event[Any] | tuple[str, bytes]
"""An event, or a stream and the encoded event (where encoding is the service's own fast path)."""


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """An entry this consumer holds. There are many: this is made in a quarter of a named tuple's time."""

    stream: str
    type: str
    entry: str
    body: bytes
    deliveries: int = 1

    def parse(self) -> Event[Any]:
        """The event in it. Raises InvalidEvent."""
        return parse(self.body)


@dataclass(frozen=True, slots=True)
class Once:
    """First writer wins: of the deliveries of one id within the window, the first completion's outputs are written;
    those of a later one are dropped, and it is acknowledged."""

    key: str
    """Where the ids of this window are remembered, in the slot of the streams; ``:0`` or ``:1`` is added to it."""
    ids: tuple[str, ...]
    """One for each entry of ``Completion.outputs``."""
    window_seconds: float
    """An id is remembered for at least so long, and at most twice as long."""


@dataclass(frozen=True, slots=True)
class Later:
    """Deliveries of a batch that are completed by themselves, after its others: these wait for none of them."""

    deliveries: "list[Delivery]"
    completion: "Callable[[], Awaitable[Completion]]"
    """Begun when the others are completed; the deliveries stay ours meanwhile."""


@dataclass(slots=True)
class Completion:
    """What a batch led to. Deliveries named neither in ``outputs`` nor in ``dead`` stay pending."""

    outputs: list[tuple[Delivery, Sequence[Output]]] = field(default_factory=list)
    dead: list[tuple[Delivery, str, str]] = field(default_factory=list)
    """With a reason's code and a sentence."""
    writes: list[Write] = field(default_factory=list)
    """Redis commands (command, key, …) carried out in the same atomic step."""
    guard: tuple[str, bytes | None] | None = None
    """A key and the value it must still have."""
    once: "Once | None" = None
    later: Later | None = None
    """For whoever took the batch: the step itself does nothing about it."""

    @property
    def empty(self) -> bool:
        """Whether the step has nothing to do."""
        return not (self.outputs or self.dead or self.writes or self.guard)


OnDone = Callable[[str, int, int], None]
"""Told of each stream how many of its entries were completed and how many of those were buried."""


class Mailbox:
    """A consumer's side of its group: completion, lease, dead letters."""

    def __init__(
        self,
        servers: Redis | Nodes,
        namespace: str,
        group: str,
        consumer: str,
        lease_seconds: float,
        on_done: OnDone = lambda _stream, _handled, _buried: None,
    ) -> None:
        self.nodes = nodes_of(servers)
        self.redis = self.nodes.control
        self._outbox = Outbox(self.nodes, group, self._commit)
        self._on_done = on_done
        self.namespace = namespace
        self.group = group
        self.consumer = consumer
        self.lease_seconds = lease_seconds

    async def load_scripts(self) -> None:
        """Load the Lua steps, so that an ACL that forbids EVAL does not matter later."""
        for redis in self.nodes.servers():
            await _COMPLETE.load(redis)
            await _RENEW.load(redis)
            await _OVERDUE.load(redis)

    async def open(self, streams: Iterable[str]) -> None:
        """Create the group on each stream at its very beginning, on all of them together.

        FastStream creates groups at ``$``, so that events published before a first start would never be delivered.
        """
        for redis, here in self.nodes.by_server(streams):
            for begin in range(0, len(here), _STREAMS):
                pipe = redis.pipeline(transaction=False)
                for stream in here[begin : begin + _STREAMS]:
                    pipe.xgroup_create(stream, self.group, "0", mkstream=True)
                for reply in await pipe.execute(raise_on_error=False):
                    if isinstance(reply, Exception) and "BUSYGROUP" not in str(reply):
                        raise reply

    async def complete(self, completion: Completion) -> list[Delivery]:
        """Outputs, acknowledgements and writes in one atomic step.

        Returns the deliveries that were refused because another consumer owns them now. Without ``writes`` and
        ``guard`` every delivery stands alone; with them a refusal means that nothing at all happened.
        Raises StaleState when the guarded key has another value. While Redis is full it waits, and keeps the entries.
        """
        if completion.empty:
            return []
        if completion.outputs and completion.dead and not completion.writes and completion.guard is None:
            # Answers do not wait until the letters of what came with them are written.
            refused = await self._step(replace(completion, dead=[]))
            return refused + await self._step(Completion(dead=completion.dead))
        return await self._step(completion)

    async def _commit(self, writes: Sequence[Write], guard: tuple[str, bytes | None]) -> None:
        await self._step(Completion(writes=list(writes), guard=guard))

    async def send_on(self, stream: str) -> None:
        """Carry out what steps beside this stream led to in other slots of a cluster. Raises redis errors."""
        if self.nodes.cluster:
            await self._outbox.send_on(stream)

    async def _step(self, completion: Completion) -> list[Delivery]:
        """In a cluster what belongs to another slot waits beside the step, and is sent on as soon as it is done."""
        burials = self._burials(completion.dead)
        home = _home(completion)
        if not self.nodes.cluster or not home:
            return await self._atomic(completion, burials, self.redis)
        at_home = self._at_home(completion, home)
        refused = await self._atomic(
            at_home, [self._outbox.write(home, write) for write in burials], self.nodes.of(home)
        )
        if burials or at_home != completion:
            with contextlib.suppress(RedisError):  # whoever looks for abandoned entries looks here too
                await self._outbox.send_on(home)
        return refused

    def _at_home(self, completion: Completion, home: str) -> Completion:
        outputs: list[tuple[Delivery, Sequence[Output]]] = [
            (delivery, [self._outbox.output(home, *self._encoded(output)) for output in outputs])
            for delivery, outputs in completion.outputs
        ]
        writes = [self._outbox.write(home, write) for write in completion.writes]
        return replace(completion, outputs=outputs, writes=writes)

    def _encoded(self, output: Output) -> tuple[str, bytes]:
        return output if isinstance(output, tuple) else (output.stream(self.namespace), output.to_json())

    async def _atomic(self, completion: Completion, burials: list[Write], redis: Redis) -> list[Delivery]:
        step, words = self._packed(completion, burials)
        entries = [delivery for delivery, _ in completion.outputs] + [delivery for delivery, _, _ in completion.dead]
        history.record("completing", entries)
        reply = await when_there_is_room(lambda: _COMPLETE(redis, step.keys, words), lambda: self._keep(entries))
        if reply == b"STALE":
            raise StaleState(completion.guard[0] if completion.guard else "")
        if not reply:
            history.record("complete", entries)
            self._count(completion)
            self._tell(completion.dead)
            return []
        refused = {item.decode() for item in reply}
        lost = [d for d in entries if f"{step.position(d.stream)}/{d.entry}" in refused]
        if _mode(completion) == "each":
            history.record("complete", [d for d in entries if d not in lost])
        return lost

    def _packed(self, completion: Completion, burials: list[Write]) -> tuple[Step, list[Any]]:
        """What ``complete.lua`` is told."""
        once = completion.once
        ids = once.ids if once else itertools.repeat("")
        rows: list[Row] = [
            (d.stream, d.entry, id_, self._pairs(outputs))
            for (d, outputs), id_ in zip(completion.outputs, ids, strict=once is not None)
        ]
        rows += [(d.stream, d.entry, "", ()) for d, _, _ in completion.dead]
        step = Step()
        marks = [step.position(f"{once.key}:{parity}") for parity in (0, 1)] if once else (0, 0)
        guard, expected = (
            (step.position(completion.guard[0]), completion.guard[1] or b"") if completion.guard else (0, b"")
        )
        window = int(once.window_seconds * 1000) if once else 0
        head = (self.group, self.consumer, _mode(completion), guard, expected, *marks, window)
        return step, [*head, *step.words(rows, [*completion.writes, *burials])]

    def _pairs(self, outputs: Sequence[Output]) -> Sequence[tuple[str, bytes]]:
        if len(outputs) == 1 and isinstance(outputs[0], tuple):  # as of most
            return outputs  # type: ignore[return-value]
        return [self._encoded(output) for output in outputs]

    def _count(self, completion: Completion) -> None:
        handled = Counter(delivery.stream for delivery, _ in completion.outputs)
        buried = Counter(delivery.stream for delivery, _, _ in completion.dead)
        for stream in handled | buried:
            self._on_done(stream, handled[stream], buried[stream])

    async def _keep(self, deliveries: Sequence[Delivery]) -> None:
        with contextlib.suppress(RedisError):
            await self.renew(deliveries)

    @staticmethod
    def _tell(dead: Sequence[tuple[Delivery, str, str]]) -> None:
        """A line a reason and stream: each letter has its own event, and a flood of them must not flood the log."""
        found: dict[tuple[str, str], list[tuple[Delivery, str]]] = {}
        for delivery, code, message in dead:
            found.setdefault((delivery.stream, code), []).append((delivery, message))
        for (stream, code), several in found.items():
            first, why = several[0]
            log.warning("dead-lettered", stream=stream, reason=code, events=len(several), first=first.entry, why=why)

    def _burials(self, dead: Sequence[tuple[Delivery, str, str]]) -> list[Write]:
        writes: list[Write] = []
        for delivery, code, message in dead:
            event_id, event_type = _named(delivery.body)
            letter = DeadLetter(
                group=self.group,
                stream=delivery.stream,
                entry=delivery.entry,
                reason=code if code in _LETTER_REASONS else "poison",
                message=(message if code in _LETTER_REASONS else f"{code}: {message}")[:2000],
                deliveries=delivery.deliveries,
                event_id=event_id,
                event_type=event_type,
                at=datetime.now(UTC),
                arrived_at=_arrival(delivery.entry),
            )
            notice = EventDeadLettered.root(
                letter,
                id=content_id("dead-letter", self.group, delivery.stream, delivery.entry),
                subject=subject_of(delivery.stream, self.namespace),
                source=f"urn:tidemill:{self.group}",
            )
            grave = dead_letter_key(self.namespace)
            writes.append(("XADD", grave, "*", FIELD, delivery.body, "letter", letter.to_json()))
            writes.append(("XADD", notice.stream(self.namespace), "*", FIELD, notice.to_json()))
        return writes

    @contextlib.asynccontextmanager
    async def lease(self, deliveries: Sequence[Delivery]) -> AsyncIterator[None]:
        """Keep the entries ours while the body runs; if one is lost the body is cancelled and LeaseLost raised."""
        holder = asyncio.current_task()
        lost = False
        keeper: asyncio.Task[None] | None = None

        async def keep() -> None:
            nonlocal lost
            while True:
                with contextlib.suppress(RedisError):  # Redis is away: nobody else can take the entry over either
                    lost = bool(await self.renew(deliveries))
                if lost and holder is not None:
                    holder.cancel()
                    return
                await asyncio.sleep(self.lease_seconds / 3)

        def begin() -> None:
            nonlocal keeper
            keeper = asyncio.create_task(keep())

        # Most bodies end long before anything must be renewed: a task for each would cost more than a small batch.
        timer = asyncio.get_running_loop().call_later(self.lease_seconds / 3, begin)
        try:
            yield
        except asyncio.CancelledError:
            if lost:
                if holder is not None:
                    holder.uncancel()
                raise LeaseLost(f"{deliveries[0].stream}: another consumer took the entry over") from None
            raise
        finally:
            timer.cancel()
            if keeper is not None:
                keeper.cancel()

    async def renew(self, deliveries: Sequence[Delivery]) -> list[str]:
        """Reset the idle time of entries we own; returns the ids of those we own no longer."""
        by_stream: dict[str, list[str]] = {}
        for delivery in deliveries:
            by_stream.setdefault(delivery.stream, []).append(delivery.entry)
        lost: list[str] = []
        for stream, entries in by_stream.items():
            reply = await _RENEW(self.nodes.of(stream), [stream], [self.group, self.consumer, *entries])
            lost += [item.decode() for item in reply]
        return lost

    async def overdue(self, streams: Iterable[str]) -> list[str]:
        """Those of the streams that hold entries whose lease has run out, asked together.

        A server that does not answer hides its own streams only, with a warning.
        """
        by_slot: dict[int, list[str]] = {}
        for stream in streams:
            by_slot.setdefault(self.nodes.slot(stream), []).append(stream)
        parts = [s[begin : begin + _STREAMS] for s in by_slot.values() for begin in range(0, len(s), _STREAMS)]
        return [stream for found in await asyncio.gather(*map(self._overdue, parts)) for stream in found]

    async def _overdue(self, streams: Sequence[str]) -> list[str]:
        try:
            redis = self.nodes.of(streams[0])
            positions = await _OVERDUE(redis, streams, [self.group, int(self.lease_seconds * 1000)])
        except RedisError as error:
            log.warning("cannot look for abandoned entries", streams=len(streams), first=streams[0], why=str(error))
            return []
        return [streams[position - 1] for position in positions]

    async def reclaim(self, stream: str, count: int) -> list[Delivery]:
        """Take over entries whose lease has run out, waiting longer the more often they were delivered."""
        lease_ms = int(self.lease_seconds * 1000)
        due: dict[bytes, int] = {}
        async for entry in self._idle(stream, lease_ms):
            if len(due) == count:
                break
            deliveries = int(entry["times_delivered"])
            wait_ms = lease_ms * min(2 ** max(deliveries - 1, 0), 8)
            if entry["time_since_delivered"] < wait_ms:
                continue
            due[entry["message_id"]] = deliveries + 1
        if not due:
            return []
        # All in one round trip: a claim whose answer is lost has been made, and costs its entries another wait.
        claimed: Any = await self.nodes.of(stream).xclaim(stream, self.group, self.consumer, lease_ms, list(due))
        taken = [delivery_of(stream, entry_id, fields, due[entry_id]) for entry_id, fields in claimed if fields]
        if len(taken) < len(claimed):
            await self._forget_vanished(stream, due.keys() - {entry_id for entry_id, fields in claimed if fields})
        return taken

    async def _forget_vanished(self, stream: str, entries: Iterable[bytes]) -> None:
        """Entries deleted under their group, which Redis before 7 keeps pending, have nothing left to handle."""
        for entry_id in entries:
            redis = self.nodes.of(stream)
            if not await redis.xrange(stream, entry_id, entry_id):
                await redis.xack(stream, self.group, entry_id)
                log.error("pending entry has vanished", stream=stream, entry=entry_id.decode())

    async def _idle(self, stream: str, idle_ms: int) -> AsyncIterator[dict[str, Any]]:
        """Pending entries idle for so long, oldest first; those that must wait longer hide no other behind them."""
        after = "-"
        while True:
            page: list[dict[str, Any]] = await self.nodes.of(stream).xpending_range(
                stream, self.group, min=after, max="+", count=_PAGE, idle=idle_ms
            )
            for entry in page:
                yield entry
            if len(page) < _PAGE:
                return
            after = f"({page[-1]['message_id'].decode()}"


def _mode(completion: Completion) -> str:
    """Whether a delivery that is refused stops the others."""
    stateful = bool(completion.writes) or completion.guard is not None
    return "all" if stateful or completion.dead else "each"


def _home(completion: Completion) -> str | None:
    """A key in the slot where the step happens."""
    if completion.outputs:
        return completion.outputs[0][0].stream
    if completion.dead:
        return completion.dead[0][0].stream
    if completion.guard:
        return completion.guard[0]
    return str(completion.writes[0][1]) if completion.writes else None


def _named(body: bytes) -> tuple[str | None, str | None]:
    """Id and type of what may be an event, if they are such that an event may have them."""
    try:
        found = from_json(body)
    except ValueError:
        return None, None
    id_, type_ = (found.get("id"), found.get("type")) if isinstance(found, dict) else (None, None)
    return _word(id_), _word(type_)


def _word(found: Any) -> str | None:
    return found if isinstance(found, str) and _EVENT_ID.fullmatch(found) else None


def _arrival(entry: str) -> datetime:
    """An entry's id begins with the server's clock in ms."""
    return datetime.fromtimestamp(int(entry.partition("-")[0]) / 1000, UTC)


def subject_of(stream: str, namespace: str) -> str:
    """The pipeline of a data-plane stream, else the namespace."""
    tag = stream.partition("}")[0].lstrip("{")
    return tag.removeprefix(f"{namespace}:") if ":" in tag else namespace


def delivery_of(stream: str, entry: bytes, fields: dict[bytes, bytes], deliveries: int = 1) -> Delivery:
    """An entry as read; one without our field has an empty body, which parses to nothing and is set aside."""
    body = fields.get(FIELD.encode(), b"")
    return Delivery(stream, stream.rpartition("}:")[2], entry.decode(), body, deliveries)
