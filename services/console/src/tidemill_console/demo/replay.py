"""The replay: publishes seasons as a producer would, and reads answers and events as a consumer would."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import RedisError

from tidemill_console.connection import Client
from tidemill_console.demo.seasons import Line, played
from tidemill_console.following import follow
from tidemill_contracts.envelope import Event, content_id
from tidemill_contracts.events import (
    DataArrived,
    DriftDetected,
    LabelObserved,
    ModelDeployed,
    ModelPromoted,
    ModelRejected,
    ModelTrained,
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

WATCHED: tuple[type[Event[Any]], ...] = (
    DataArrived,
    DriftDetected,
    TrainingGranted,
    TrainingFailed,
    ModelTrained,
    PackagingFailed,
    ModelRejected,
    ModelPromoted,
    ModelDeployed,
    RetrainSuppressed,
    PerformanceRecovered,
)
_SOURCE = "urn:tidemill:demo"

_A_MOMENT = timedelta(seconds=0.5)
"""From the end of a cool-down to the grant that was waiting for it."""


@dataclass
class Record:
    """What was sent and what came back."""

    sent: dict[str, Line] = field(default_factory=dict)
    answers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Event ids of the answers to each request: more than one is a doubled answer."""
    predictions: dict[str, Any] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    entries: int = 0
    events: list[Event[Any]] = field(default_factory=list)
    seasons: dict[str, int] = field(default_factory=dict)
    """The season on the replay's clock when each event was seen."""

    @property
    def answered(self) -> int:
        """Requests with at least one answer."""
        return sum(1 for i in self.sent if self.answers.get(i))

    @property
    def doubled(self) -> int:
        """Requests with more than one answer after de-duplication by event id."""
        return sum(1 for found in self.answers.values() if len(found) > 1)

    @property
    def raw_duplicates(self) -> int:
        """Stream entries that repeat an answer under its own id."""
        return self.entries - sum(len(found) for found in self.answers.values())

    def of(self, kind: type[Any]) -> list[Any]:
        """Events of a kind, in order."""
        return [e for e in self.events if isinstance(e, kind)]

    def busy(self) -> bool:
        """Whether a training is cooling down, or has not yet led to a deployed, rejected or failed model."""
        granted = max((e.time for e in self.of(TrainingGranted)), default=None)
        queued = [e.data for e in self.of(RetrainSuppressed) if e.data.queued and (not granted or e.time > granted)]
        # What is queued for another reason waits for rows, which come only when the clock goes on.
        if queued and queued[-1].not_before and datetime.now(UTC) < queued[-1].not_before + _A_MOMENT:
            return True
        ended = sum(len(self.of(k)) for k in (TrainingFailed, PackagingFailed, ModelRejected))
        promoted = {e.data.version for e in self.of(ModelDeployed)}
        return len(self.of(TrainingGranted)) > ended + len(promoted)


class Replay:
    """One run against one pipeline."""

    def __init__(self, client: Client, pipeline: str, run: str, on_event: Callable[[Event[Any], int], None]) -> None:
        self._client = client
        self._pipeline = pipeline
        self._run = run
        self._on_event = on_event
        self._season = 0
        self.record = Record()
        self._known: set[str] = set()

    # -- producing -------------------------------------------------------------------------------------------------

    def id_of(self, line: Line) -> str:
        """The prediction id of a line: the same in every attempt to publish it."""
        return content_id("demo", self._run, line.key)

    async def season(self, year: int, lines: list[Line]) -> None:
        """Ask for the season's predictions."""
        self._season = year
        requests = [
            PredictionRequested.root(
                RequestedPrediction(features=dict(line.features)),
                subject=self._pipeline,
                source=_SOURCE,
                id=self.id_of(line),
                time=played(year),
            )
            for line in lines
        ]
        self.record.sent |= {self.id_of(line): line for line in lines}
        await self._publish(requests)

    async def outcomes(self, lines: list[Line]) -> None:
        """Tell how a season ended."""
        await self._publish(
            [
                LabelObserved.root(
                    ObservedLabel(prediction_id=self.id_of(line), label=line.label),
                    subject=self._pipeline,
                    source=_SOURCE,
                    id=content_id("demo-label", self._run, line.key),
                )
                for line in lines
            ]
        )

    async def _publish(self, events: list[Any]) -> None:
        # With the same ids until it works: a producer that gives up would lose requests by itself.
        while True:
            try:
                return await self._client.bus.publish(*events)
            except RedisError:
                await asyncio.sleep(0.2)

    # -- consuming -------------------------------------------------------------------------------------------------

    async def collect(self) -> None:
        """Read answers and events from the beginning of their streams, for ever; needs no group and loses nothing."""
        async for entry in follow(self._client, self._pipeline, (*WATCHED, PredictionCompleted, PredictionFailed)):
            self._take(entry.body)

    def _take(self, body: bytes) -> None:
        try:
            event = parse(body)
        except InvalidEvent:
            return
        if event.pipeline != self._pipeline:
            return
        record = self.record
        if isinstance(event, (PredictionCompleted, PredictionFailed)):
            prediction_id = event.data.prediction_id
            if prediction_id not in record.sent:
                return
            record.entries += 1
            record.answers[prediction_id].add(event.id)
            if isinstance(event, PredictionCompleted):
                record.predictions.setdefault(prediction_id, event.data.prediction)
                record.models.setdefault(prediction_id, event.data.model_version)
            else:
                record.failed[prediction_id] = event.data.error
        elif event.id not in self._known:
            self._known.add(event.id)
            record.events.append(event)
            record.seasons[event.id] = self._season
            self._on_event(event, self._season)

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Poll until the condition holds; False when it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    async def settle(self, labelled: int, seconds: float = 60.0) -> None:
        """Hold until the labelled rows have gone back as data and no training is in flight."""
        await self.until(lambda: self._fed_back() >= labelled, seconds)
        # The monitor's alarm and the governor's answer follow the rows by a moment.
        await asyncio.sleep(0.3)
        await self.until(lambda: not self.record.busy(), seconds)

    def _fed_back(self) -> int:
        return sum(e.data.rows or 0 for e in self.record.of(DataArrived) if e.data.origin == "feedback")


def answering_delays(record: Record) -> list[float]:
    """Seconds from each concept-drift alarm to the deployment of the first model promoted after it."""
    deployed: list[datetime] = [e.time for e in record.of(ModelDeployed)]
    delays = []
    for alarm in record.of(DriftDetected):
        later = [t for t in deployed if t > alarm.time]
        if alarm.data.kind == "concept" and later:
            delays.append((min(later) - alarm.time).total_seconds())
    return delays
