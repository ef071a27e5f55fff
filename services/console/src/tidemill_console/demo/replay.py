"""The replay: publishes seasons as a producer would, and reads answers and events as a consumer would."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from redis.exceptions import RedisError

from tidemill_console.connection import Client, Unreachable
from tidemill_console.demo.record import Record
from tidemill_console.demo.seasons import Line, played
from tidemill_contracts.envelope import FIELD, Event, content_id
from tidemill_contracts.events import (
    DataArrived,
    DriftDetected,
    LabelObserved,
    ModelDeployed,
    ModelPromoted,
    ModelRejected,
    PackagingFailed,
    PerformanceRecovered,
    PredictionCompleted,
    PredictionFailed,
    PredictionRequested,
    RetrainSuppressed,
    TrainingFailed,
    TrainingGranted,
)
from tidemill_contracts.prediction import ObservedLabel, RequestedPrediction
from tidemill_contracts.registry import InvalidEvent, parse
from tidemill_contracts.streams import stream_key

WATCHED: tuple[type[Event[Any]], ...] = (
    DataArrived,
    DriftDetected,
    TrainingGranted,
    TrainingFailed,
    PackagingFailed,
    ModelRejected,
    ModelPromoted,
    ModelDeployed,
    RetrainSuppressed,
    PerformanceRecovered,
)
_SOURCE = "urn:tidemill:demo"
_PATIENCE_SECONDS = 120.0
"""How long a producer goes on trying to reach Redis."""
Tell = Callable[[Event[Any], int], None]


class Replay:
    """One run against one pipeline. As a context it collects what comes back."""

    def __init__(self, client: Client, pipeline: str, tell: Tell) -> None:
        self._client = client
        self._pipeline = pipeline
        self._tell = tell
        self._collecting: asyncio.Task[None] | None = None
        self.season = 0
        self.record = Record()

    async def __aenter__(self) -> Self:
        self._collecting = asyncio.create_task(self._collect())
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._collecting:
            self._collecting.cancel()
            await asyncio.gather(self._collecting, return_exceptions=True)

    # -- producing -------------------------------------------------------------------------------------------------

    async def ask(self, year: int, lines: list[Line]) -> None:
        """Publish the season's prediction requests."""
        self.season = year
        self.record.sent |= {request_id(line): line for line in lines}
        await self._publish(
            [
                PredictionRequested.root(
                    RequestedPrediction(features=dict(line.features)),
                    subject=self._pipeline,
                    source=_SOURCE,
                    id=request_id(line),
                    time=played(year),
                )
                for line in lines
            ]
        )

    async def tell_outcomes(self, lines: list[Line]) -> None:
        """Publish how a season ended."""
        await self._publish(
            [
                LabelObserved.root(
                    ObservedLabel(prediction_id=request_id(line), label=line.label),
                    subject=self._pipeline,
                    source=_SOURCE,
                    id=content_id("label", request_id(line)),
                )
                for line in lines
            ]
        )

    async def _publish(self, events: list[Any]) -> None:
        # Again with the same ids until it works: a producer that gives up would lose requests by itself.
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return await self._client.bus.publish(*events)
            except RedisError as error:
                if time.monotonic() > deadline:
                    raise Unreachable(f"Redis has not answered for {_PATIENCE_SECONDS:.0f} s: {error}") from error
                await asyncio.sleep(0.2)

    # -- consuming -------------------------------------------------------------------------------------------------

    async def _collect(self) -> None:
        """Read from the beginning of the streams, for ever; needs no group, and a reconnection loses nothing."""
        namespace = self._client.namespace
        position: dict[Any, Any] = {stream_key(namespace, kind.type_name()): "0" for kind in WATCHED}
        for kind in (PredictionCompleted, PredictionFailed):
            position[stream_key(namespace, kind.type_name(), self._pipeline)] = "0"
        while True:
            try:
                reply: Any = await self._client.bus.redis.xread(dict(position), count=2_000, block=200)
            except RedisError:
                await asyncio.sleep(0.2)
                continue
            for name, entries in reply.items() if isinstance(reply, dict) else reply or ():
                for entry, fields in entries:
                    position[name.decode()] = entry.decode()
                    self._take(fields.get(FIELD.encode(), b""))

    def _take(self, body: bytes) -> None:
        try:
            event = parse(body)
        except InvalidEvent:
            return
        if event.pipeline != self._pipeline:
            return
        if isinstance(event, (PredictionCompleted, PredictionFailed)):
            self.record.take_answer(event)
        elif self.record.take(event, self.season):
            self._tell(event, self.season)

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Poll until the condition holds; False when it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self._collecting and self._collecting.done():
                self._collecting.result()  # what stopped the collector is the answer
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    async def all_answered(self, seconds: float = 60.0) -> bool:
        """Wait until every request has its answer."""
        return await self.until(lambda: not self.record.lost, seconds)

    async def settled(self, labelled: int, seconds: float = 60.0) -> bool:
        """Wait until ``labelled`` rows have gone back as data and no training is in flight."""
        awaited = labelled - len(self.record.failed)
        came = await self.until(lambda: self.record.fed_back() >= awaited, seconds)
        # The monitor's alarm and the governor's answer follow the rows by a moment.
        await asyncio.sleep(0.3)
        return await self.until(lambda: not self.record.training(), seconds) and came


def request_id(line: Line) -> str:
    """The same in every attempt and in every run: a row's split follows from it, and so a replay can be repeated."""
    return content_id("home-runs", line.key)
