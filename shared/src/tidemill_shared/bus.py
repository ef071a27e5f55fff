"""The event bus: typed handlers on the control plane, batches on the data plane, one completion step for both."""

import asyncio
import contextlib
import functools
import inspect
import itertools
import logging
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.annotations import RedisStreamMessage
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import AskError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.registry import InvalidEvent, parse_as
from tidemill_contracts.streams import state_key, stream_key
from tidemill_shared import history, lock, telemetry
from tidemill_shared.delivery import Completion, Delivery, Mailbox, Output, delivery_of
from tidemill_shared.errors import LeaseLost, Poison, Retryable, StaleState
from tidemill_shared.following import Callback, end_of, follow
from tidemill_shared.halts import Halts
from tidemill_shared.lane import OnBatch, OnStale
from tidemill_shared.lanes import Lanes
from tidemill_shared.log import logger
from tidemill_shared.nodes import Nodes, redis_url
from tidemill_shared.outbox import Write
from tidemill_shared.room import Room, when_there_is_room
from tidemill_shared.settings import DeliverySettings, RedisSettings
from tidemill_shared.tasks import end
from tidemill_shared.tidying import tidy
from tidemill_shared.wire import CloudEventsFormat

log = logger(__name__)
EventT = TypeVar("EventT", bound=Event[Any])
Handler = Callable[[Any], Awaitable[Event[Any] | Sequence[Event[Any]] | None]]


_ATTEMPT_PAUSES = (0.2, 1.0)
"""Seconds between attempts at a retryable handler before the entry is left pending."""


@dataclass(frozen=True)
class Subscription:
    """A handler, the event it takes, the events it may lead to."""

    event: type[Event[Any]]
    outputs: tuple[type[Event[Any]], ...]
    handler: Handler


def _parsed(sub: Subscription, delivery: Delivery) -> Event[Any]:
    """The event of an entry. Raises Poison; what a handler cannot parse later says nothing about the event."""
    try:
        return parse_as(sub.event, delivery.body)
    except InvalidEvent as error:
        raise Poison(error.code, str(error)) from None


def _events_in(annotation: Any) -> tuple[type[Event[Any]], ...]:
    if inspect.isclass(annotation) and issubclass(annotation, Event):
        return (annotation,)
    if get_origin(annotation) in (Union, types.UnionType, list, tuple, Sequence) or get_args(annotation):
        return tuple(e for part in get_args(annotation) for e in _events_in(part))
    return ()


def subscription(handler: Handler) -> Subscription:
    """Read a handler's annotations. Raises TypeError when its one parameter is not an event class."""
    hints = get_type_hints(handler)
    parameters = [name for name in inspect.signature(handler).parameters if name != "self"]
    takes = hints.get(parameters[0]) if len(parameters) == 1 else None
    if not (inspect.isclass(takes) and issubclass(takes, Event)):
        raise TypeError(f"{handler!r}: a handler takes exactly one parameter, annotated with its event class")
    return Subscription(takes, _events_in(hints.get("return")), handler)


class Bus:
    """One service's connection to the streams. Nothing connects before ``connect``."""

    def __init__(
        self,
        group: str,
        redis: RedisSettings,
        *,
        namespace: str,
        instance: str = "1",
        delivery: DeliverySettings | None = None,
    ) -> None:
        self.group = group
        self.consumer = f"{group}-{instance}"
        self.namespace = namespace
        self.delivery = delivery or DeliverySettings()
        self.nodes = Nodes(redis, namespace)
        self.redis = self.nodes.control
        self.halts = Halts(self.redis, namespace, group, self.delivery)
        self.mailbox = Mailbox(
            self.nodes, namespace, group, self.consumer, self.delivery.lease_seconds, on_done=self.halts.note
        )
        self.room = Room(self.nodes, self.delivery)
        self._stopping = asyncio.Event()
        self.broker = RedisBroker(
            redis_url(redis),
            message_format=CloudEventsFormat,
            logger=logging.getLogger("faststream"),
            **self.nodes.options(),
        )
        self.subscriptions: list[Subscription] = []
        self.data: list[Lanes] = []
        self._tails: list[tuple[type[Event[Any]], Callback[Any], str]] = []
        self._tasks: list[asyncio.Task[None]] = []

    # -- wiring ----------------------------------------------------------------------------------------------------

    def consume(self, handler: Handler) -> None:
        """Let ``handler`` take events of the class its parameter names; what it returns is published with the ack."""
        sub = subscription(handler)
        self.subscriptions.append(sub)

        async def on_message(message: RedisStreamMessage) -> None:
            raw = message.raw_message
            fields: Any = raw["data"]
            if await self._passable(raw["channel"]):
                await self._process(sub, delivery_of(raw["channel"], raw["message_ids"][0], fields))

        self.broker.subscriber(
            stream=StreamSub(
                self._stream(sub.event),
                group=self.group,
                consumer=self.consumer,
                max_records=1,  # the rest of a larger batch would wait, unrenewed, behind the first
                polling_interval=int(self.delivery.block_seconds * 1000),
            ),
            ack_policy=AckPolicy.MANUAL,  # its other policies lose events or leave them pending for ever
            title=sub.event.type_name(),
        )(on_message)

    def tail(self, event: type[EventT], callback: Callback[EventT]) -> None:
        """Show every replica each ``event`` published from now on, without group or ack: for caches only."""
        self._tails.append((event, callback, "0"))

    def lanes(
        self,
        events: Sequence[type[Event[Any]]],
        on_batch: OnBatch,
        *,
        max_records: int = 512,
        on_stale: OnStale | None = None,
        ahead: bool = False,
    ) -> None:
        """Take these data-plane events of every pipeline in batches; ``ahead``: see ``Lanes``.

        What is taken by another call has lanes of its own: neither waits for the other.
        """
        lanes = Lanes(
            self.mailbox,
            self.delivery,
            events,
            on_batch,
            max_records=max_records,
            on_stale=on_stale,
            ahead=ahead,
            halts=self.halts,
        )
        self.data.append(lanes)

    async def serve(self, *pipelines: str) -> None:
        """Take the data-plane events of these pipelines too."""
        for lanes in self.data:
            await lanes.add(*pipelines)

    # -- life ------------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Reach Redis, load the scripts, create the groups. Raises redis errors."""
        await self.reach()
        await self.mailbox.load_scripts()
        await self.mailbox.open(self._stream(sub.event) for sub in self.subscriptions)
        await self.halts.look()
        self._tails = [(event, cb, await end_of(self.redis, self._stream(event))) for event, cb, _ in self._tails]

    async def reach(self) -> None:
        """Find the server, or the servers of the cluster: enough to publish. Raises redis errors."""
        await self.nodes.look()
        await self.redis.ping()

    async def start(self) -> None:
        """Begin consuming."""
        await self.broker.start()
        self._tasks = [asyncio.create_task(self._reclaim(sub), name="reclaim") for sub in self.subscriptions]
        self._tasks.append(asyncio.create_task(self._tidy(), name="tidy"))
        self._tasks.append(asyncio.create_task(self._watch_halts(), name="halts"))
        self._tasks += [asyncio.create_task(tail, name="tail") for tail in self._following()]
        for lanes in self.data:
            lanes.start()

    def _following(self) -> list[Coroutine[Any, Any, None]]:
        seconds = self.delivery.block_seconds
        return [follow(self.redis, self._stream(event), event, cb, last, seconds) for event, cb, last in self._tails]

    async def stop(self) -> None:
        """Stop taking events, let running handlers finish, close the connections."""
        self._stopping.set()
        await end(self._tasks)
        await asyncio.gather(*[lanes.stop() for lanes in self.data])
        await self.broker.stop()
        await self.nodes.aclose()

    def failed(self) -> str | None:
        """What has died and will not come back by itself; None while all is well.

        FastStream stops a subscriber whose group is gone and then exits with code 0: this is how we notice.
        """
        for subscriber in self.broker.subscribers:
            if not subscriber.running:
                return f"subscriber {subscriber.specification.name if subscriber.specification else ''} has stopped"
        for task in (*self._tasks, *(task for lanes in self.data for task in lanes.tasks)):
            if task.done():
                error = None if task.cancelled() else task.exception()
                return f"{task.get_name()} has stopped: {error!r}"
        return self.nodes.failed()

    # -- publishing ------------------------------------------------------------------------------------------------

    async def publish(self, *events: Event[Any]) -> None:
        """Add events to their streams; repeated, after a lost answer, with the same ids. Waits while Redis is full."""
        retry = Retry(ExponentialBackoff(cap=1.0, base=0.05), 8, (RedisConnectionError, RedisTimeoutError, AskError))

        async def add() -> None:
            pipelines: dict[Redis, Pipeline] = {}
            for event in events:
                stream = event.stream(self.namespace)
                redis = self.nodes.of(stream)
                pipeline = pipelines.get(redis) or pipelines.setdefault(redis, redis.pipeline(transaction=False))
                pipeline.xadd(stream, {FIELD: telemetry.traced(event).to_json()})
            for pipeline in pipelines.values():
                await pipeline.execute()

        async def again(_error: Exception) -> None:
            with contextlib.suppress(RedisError):
                await self.nodes.look()

        await when_there_is_room(functools.partial(retry.call_with_retry, add, again))

    async def offer(self, *events: Event[Any]) -> None:
        """Publish what comes from outside, if there is room for it. Raises Overloaded, and redis errors."""
        for stream in sorted({event.stream(self.namespace) for event in events}):
            await self.room.check(stream)
        await self.publish(*events)

    async def commit(
        self,
        outputs: Sequence[Output] = (),
        *,
        writes: Sequence[Write] = (),
        guard: tuple[str, bytes | None] | None = None,
    ) -> None:
        """Outputs and state in one atomic step, without an entry to acknowledge. Raises StaleState."""
        adds: list[Write] = []
        for output in outputs:
            stream, body = (
                output
                if isinstance(output, tuple)
                else (output.stream(self.namespace), telemetry.traced(output).to_json())
            )
            adds.append(("XADD", stream, "*", FIELD, body))
        await self.mailbox.complete(Completion(writes=[*writes, *adds], guard=guard))

    def lock(self, name: str, *, patience_seconds: float = 30.0) -> AbstractAsyncContextManager[None]:
        """Hold a lease by name. Raises Retryable when it cannot be had in time, LeaseLost when it was lost."""
        key = state_key(self.namespace, "lock", name)
        return lock.hold(self.redis, key, lease_seconds=self.delivery.lease_seconds, patience_seconds=patience_seconds)

    # -- consuming -------------------------------------------------------------------------------------------------

    def _stream(self, event: type[Event[Any]]) -> str:
        return stream_key(self.namespace, event.type_name())

    async def _passable(self, stream: str) -> bool:
        """Hold the stream's only reader back while it is halted; its entry stays pending. False: we are stopping."""
        if stream not in self.halts.streams:
            return True
        waiting = [asyncio.ensure_future(self.halts.passable(stream)), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiting:
                waiter.cancel()
        return not self._stopping.is_set()

    async def _watch_halts(self) -> None:
        while True:
            await asyncio.sleep(self.delivery.block_seconds)
            try:
                await self.nodes.look()
                await self.halts.look()
            except RedisError as error:
                log.warning("cannot look for halted streams", why=str(error))

    async def _process(self, sub: Subscription, delivery: Delivery) -> None:
        """Parse, handle, complete. Never raises for what an event did; the entry then stays pending or is buried."""
        started = time.perf_counter()
        outcome = "completed"
        try:
            history.record("read", [delivery])
            event = _parsed(sub, delivery)
            with telemetry.consuming(event):
                outputs = await self._handle(sub, event, delivery)
                completion = Completion(outputs=[(delivery, [telemetry.traced(o, event) for o in outputs])])
                if await self.mailbox.complete(completion):
                    raise LeaseLost(f"{delivery.stream}: completed by another consumer")
        except Poison as error:
            outcome = "buried"
            await self._bury(delivery, error.code, str(error))
        except LeaseLost as error:
            outcome = "refused"
            log.warning("output dropped: the entry is no longer ours", entry=delivery.entry, why=str(error))
        except (Retryable, StaleState, RedisError) as error:
            outcome = "retried"
            log.warning("left pending, will be retried", type=delivery.type, entry=delivery.entry, why=str(error))
        except Exception:
            outcome = "retried"
            log.error("handler failed, will be retried", exc_info=True, type=delivery.type, entry=delivery.entry)
        telemetry.counter("tidemill.events.handled").add(1, {"type": delivery.type, "outcome": outcome})
        telemetry.histogram("tidemill.events.duration").record(time.perf_counter() - started, {"type": delivery.type})

    async def _handle(self, sub: Subscription, event: Event[Any], delivery: Delivery) -> Sequence[Event[Any]]:
        async with self.mailbox.lease([delivery]):
            for pause in (*_ATTEMPT_PAUSES, None):
                try:
                    result = await when_there_is_room(functools.partial(sub.handler, event))
                except Retryable:
                    if pause is None:
                        raise
                    await asyncio.sleep(pause)
                else:
                    return () if result is None else (result,) if isinstance(result, Event) else result
        raise AssertionError("unreachable")

    async def _bury(self, delivery: Delivery, code: str, message: str) -> None:
        with contextlib.suppress(RedisError):  # if Redis is away it stays pending and comes back
            await self.mailbox.complete(Completion(dead=[(delivery, code, message)]))

    async def _reclaim(self, sub: Subscription) -> None:
        stream = self._stream(sub.event)
        for pause in itertools.chain([0.0], itertools.repeat(self.delivery.lease_seconds / 4)):
            await asyncio.sleep(pause)
            if stream in self.halts.streams:
                continue
            try:
                taken = await self.mailbox.reclaim(stream, count=1)
            except RedisError as error:
                log.warning("cannot look for abandoned entries", stream=stream, why=str(error))
                continue
            for delivery in taken:
                telemetry.counter("tidemill.events.reclaimed").add(1, {"type": delivery.type})
                if delivery.deliveries > self.delivery.max_deliveries:
                    await self._bury(delivery, "deliveries", f"given up after {delivery.deliveries - 1} deliveries")
                else:
                    await self._process(sub, delivery)

    async def _tidy(self) -> None:
        control = {
            self._stream(e) for sub in self.subscriptions for e in (sub.event, *sub.outputs) if e.plane == "control"
        }
        while True:
            await asyncio.sleep(self.delivery.trim_seconds)
            lanes = [stream for some in self.data for stream in some.streams()]
            read = [*(self._stream(sub.event) for sub in self.subscriptions), *lanes]
            try:
                await tidy(self.nodes, self.group, self.delivery, control=sorted(control), lanes=lanes, read=read)
            except RedisError as error:
                log.warning("cannot tidy the streams", why=str(error))
