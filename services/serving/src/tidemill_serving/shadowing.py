"""Shadows: a challenger scores the same requests once more, in a consumer group of its own, into a stream of its own.

It stands in nobody's way: what it reads is never pending, it works at most half the time, and when it falls behind it
goes on with what comes now. Whatever happens to it, the champion's answers are written as ever.
"""

import asyncio
import time
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import PredictionRequested, PredictionsRequested
from tidemill_contracts.streams import stream_key
from tidemill_serving import encode
from tidemill_serving.asked import scored, shadowed
from tidemill_serving.loading import Loaded
from tidemill_serving.trying import Running, Works, bodies, counted
from tidemill_shared.bus import Bus
from tidemill_shared.delivery import Delivery
from tidemill_shared.log import logger
from tidemill_shared.raw import call
from tidemill_shared.tasks import end
from tidemill_shared.trimming import trim

log = logger(__name__)
_REQUESTS = {event.type_name(): event for event in (PredictionRequested, PredictionsRequested)}
_COUNT = 256
_BEHIND_SECONDS = 5.0
_PAUSE_SECONDS = 1.0
_TRIM_SECONDS = 10.0


class Shadows:
    """One task for each pipeline whose trial is in its shadow stage."""

    def __init__(self, bus: Bus, work: Works, max_rows: int) -> None:
        self._bus = bus
        self._work = work
        self._max_rows = max_rows
        self._group = f"{bus.group}-shadow"
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, running: Running) -> None:
        """Score what is asked from now on. Raises redis errors."""
        pipeline = running.trial.pipeline
        await self._halt(pipeline)
        for stream in self._streams(pipeline):
            try:
                await self._redis(pipeline).xgroup_create(stream, self._group, "$", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
        await self._redis(pipeline).persist(self._into(pipeline))
        self._tasks[pipeline] = asyncio.create_task(self._follow(running), name=f"shadow {pipeline}")

    async def end(self, pipeline: str) -> None:
        """No more; the group goes, so that it holds no request back, and the stream after its retention."""
        await self._halt(pipeline)
        for stream in self._streams(pipeline):
            try:
                await self._redis(pipeline).xgroup_destroy(stream, self._group)
            except ResponseError as error:
                if "key to exist" not in str(error):
                    raise
        await self._redis(pipeline).expire(self._into(pipeline), int(self._bus.delivery.pressed_retention_seconds) + 1)

    async def stop(self) -> None:
        """The service ends: another replica, or this one after its restart, goes on where the group is."""
        await end(self._tasks.values())
        self._tasks.clear()

    async def _halt(self, pipeline: str) -> None:
        task = self._tasks.pop(pipeline, None)
        if task:
            await end([task])

    def _streams(self, pipeline: str) -> list[str]:
        return [stream_key(self._bus.namespace, type_, pipeline) for type_ in _REQUESTS]

    def _redis(self, pipeline: str) -> Redis:
        """The server that holds the pipeline's streams."""
        return self._bus.nodes.of(self._into(pipeline))

    def _into(self, pipeline: str) -> str:
        return stream_key(self._bus.namespace, encode.SHADOWED, pipeline)

    async def _follow(self, running: Running) -> None:
        pipeline, trimmed = running.trial.pipeline, 0.0
        while True:
            try:
                started = time.monotonic()
                batch, asked = await self._read(pipeline), running.kept.taken()
                if batch or asked:
                    started = time.monotonic()
                    await self._score(running, batch, asked)
                if started - trimmed > _TRIM_SECONDS:
                    trimmed = started
                    await trim(
                        self._redis(pipeline), [self._into(pipeline)], self._bus.delivery.pressed_retention_seconds
                    )
                await asyncio.sleep(time.monotonic() - started if batch or asked else 0)
            except RedisError as error:
                if "NOGROUP" in str(error):
                    return  # somebody saw the end of the stage before us
                log.warning("a shadow cannot go on", pipeline=pipeline, why=str(error))
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _read(self, pipeline: str) -> list[Delivery]:
        streams = self._streams(pipeline)
        command = ("XREADGROUP", "GROUP", self._group, self._bus.consumer, "COUNT", _COUNT, "NOACK", "BLOCK", 500)
        reply = await call(self._redis(pipeline), *command, "STREAMS", *streams, *[">"] * len(streams))
        found: list[Delivery] = []
        for name, entries in reply.items() if isinstance(reply, dict) else reply or ():
            stream = name.decode()
            type_ = stream.rpartition(":")[2]
            found += [Delivery(stream, type_, entry.decode(), _body(fields)) for entry, fields in entries]
            if len(entries) == _COUNT:
                await self._catch_up(pipeline, stream, found[-1])
        return found

    async def _catch_up(self, pipeline: str, stream: str, last: Delivery) -> None:
        """Leave out what waits when it has waited for long."""
        now: Any = await self._redis(pipeline).time()
        if now[0] - int(last.entry.partition("-")[0]) / 1000 > _BEHIND_SECONDS:
            await self._redis(pipeline).xgroup_setid(stream, self._group, "$")
            log.warning("a shadow has left requests out", stream=stream)

    async def _score(self, running: Running, batch: list[Delivery], asked: list[tuple[Loaded, bytes]]) -> None:
        pipeline = running.trial.pipeline
        stream = self._into(pipeline)
        pipe = self._redis(pipeline).pipeline(transaction=False)
        for body in await asyncio.to_thread(self._answers, running, batch, asked):
            pipe.xadd(stream, {FIELD: body})
        await pipe.execute()

    def _answers(self, running: Running, batch: list[Delivery], asked: list[tuple[Loaded, bytes]]) -> list[bytes]:
        pipeline, version = running.trial.pipeline, running.trial.version
        work = self._work(pipeline, running.loaded)
        found = counted(work, batch, self._bus.delivery.once_seconds, running.challenger) if batch else None
        answers = _shadowed(bodies(found), version) if found else []
        for champion, body in asked:  # by both, as the champion's own time had others' in it
            scored(body, champion, self._max_rows, running.champion)
            answers += shadowed(pipeline, scored(body, running.loaded, self._max_rows, running.challenger), version)
        return answers


def _body(fields: list[bytes] | None) -> bytes:
    pairs = fields or []
    return dict(zip(pairs[::2], pairs[1::2], strict=False)).get(FIELD.encode(), b"")


def _shadowed(answers: list[bytes], version: str) -> list[bytes]:
    """An event for each row of the answers."""
    found = []
    for body in answers:
        event = orjson.loads(body)
        found += [encode.shadowed(event, *row, version) for row in _rows(event["type"], event["data"])]
    return found


def _rows(type_: str, data: dict[str, Any]) -> list[tuple[str, Any, str | None]]:
    """Prediction id, prediction and error of each row of an answer."""
    if type_ != encode.TABLE:
        return [(data["prediction_id"], data.get("prediction"), data.get("error"))]
    rows = [(id_, value, None) for id_, value in zip(data["prediction_ids"], data["predictions"], strict=True)]
    return rows + [(id_, None, group["error"]) for group in data.get("refused", ()) for id_ in group["prediction_ids"]]
