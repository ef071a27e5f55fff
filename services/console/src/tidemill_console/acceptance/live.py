"""A stream through the real services: requests, answers, labels, alarms, trainings, promotions.

Block by block, each after the one before has had all its consequences, so that the outcome depends on the policy and
not on the speed of the machine.
"""

import asyncio
import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tidemill_console.acceptance import mislead
from tidemill_console.acceptance.learned import learned_rows
from tidemill_console.acceptance.outcome import Outcome
from tidemill_console.acceptance.specification import KEY, TARGET, TIME, specification
from tidemill_console.acceptance.stream import Stream, moment, row_of
from tidemill_console.commands.data import publish_file
from tidemill_console.commands.declare import declare_pipeline
from tidemill_console.connection import Client
from tidemill_console.following import follow
from tidemill_console.output import say
from tidemill_contracts.artifacts import monitoring_key
from tidemill_contracts.envelope import Event, content_id
from tidemill_contracts.events import (
    DataArrived,
    DatasetPrepared,
    DatasetRejected,
    DriftDetected,
    DriftEvaluated,
    LabelObserved,
    ModelDeployed,
    ModelPromoted,
    ModelRejected,
    ModelTrained,
    PackagingFailed,
    PerformanceDegraded,
    PredictionCompleted,
    PredictionFailed,
    PredictionRequested,
    RetrainSuppressed,
    TrainingFailed,
    TrainingGranted,
)
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.prediction import ObservedLabel, RequestedPrediction
from tidemill_contracts.registry import EVENTS, InvalidEvent, parse
from tidemill_shared.errors import TidemillError

_SOURCE = "urn:tidemill:acceptance"
_CONTROL = (kind for kind in EVENTS.values() if kind.plane == "control")
_WATCHED: tuple[type[Event[Any]], ...] = (*_CONTROL, PredictionCompleted, PredictionFailed)
_QUIET_SECONDS = 0.15
_PATIENCE_SECONDS = 600.0
_TOLD_ROWS = 4_000


@dataclass
class Seen:
    """What came back."""

    answers: dict[str, Any] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    events: list[tuple[int, Event[Any]]] = field(default_factory=list)
    """With the row on the replay's clock when each was seen."""
    ids: set[str] = field(default_factory=set)
    heard: float = 0.0

    def of(self, *kinds: type[Any]) -> list[tuple[int, Any]]:
        """Events of some kinds, in order."""
        return [(row, e) for row, e in self.events if isinstance(e, kinds)]

    @property
    def fed_back(self) -> int:
        """Labelled rows that have become data, or were refused as such."""
        done = {e.causationid for _, e in self.of(DatasetPrepared, DatasetRejected)}
        return sum(e.data.rows or 0 for _, e in self.of(DataArrived) if e.data.origin == "feedback" and e.id in done)

    @property
    def deploying(self) -> bool:
        """Whether a promoted model has not answered yet."""
        promoted = max((e.data.sequence for _, e in self.of(ModelPromoted)), default=0)
        return promoted > max((e.data.sequence for _, e in self.of(ModelDeployed)), default=0)


class Play:
    """One stream through one pipeline of its own."""

    def __init__(
        self, client: Client, stream: Stream, *, run: str, seed: int, block: int, spec: PipelineSpec | None = None
    ) -> None:
        self._client = client
        self._stream = stream
        self._run = run
        self._block = block
        self._spec = spec or specification(stream, f"acceptance-{run}", seed, block)
        self._row = 0
        self._seen = Seen()
        self._held: dict[str, int] = {}
        """Rows that were put aside, by object."""
        self._open: dict[str, set[str]] = {}
        """Entries of the control plane that somebody may still be busy with, by stream."""

    async def outcome(self) -> Outcome:
        """Play it all. Raises TidemillError when the stack does not keep up with a block within ten minutes."""
        begun = time.monotonic()
        listening = asyncio.create_task(self._listen())
        try:
            await self._first()
            labelled, before = 0, self._stream.first
            for begin in range(self._stream.first, len(self._stream), self._block):
                await self._mislead(begin)
                end = min(begin + self._block, len(self._stream))
                await self._ask(begin, end)
                known = self._stream.known(before, end)
                await self._tell(known)
                # A row that nobody answered has nothing to be labelled.
                labelled += sum(self._id(row) in self._seen.answers for row in known)
                before = end
                await self._returned(labelled)
                await self._calm()
                if end // _TOLD_ROWS > begin // _TOLD_ROWS:
                    say(f"{self._stream.name}: row {end} of {len(self._stream)}")
        finally:
            listening.cancel()
        outcome = self._summary(time.monotonic() - begun)
        outcome.learned = await self._learned()
        return outcome

    def _id(self, row: int) -> str:
        return content_id("acceptance", self._run, str(row))

    async def _first(self) -> None:
        await declare_pipeline(self._client, self._spec)
        rows = self._stream.table.iloc[: self._stream.first].copy()
        rows[TARGET] = self._stream.labels[: self._stream.first]
        rows[KEY] = np.arange(len(rows))
        rows[TIME] = [moment(i).isoformat() for i in range(len(rows))]
        rows = rows[self._stream.learnable]
        with TemporaryDirectory() as folder:
            file = Path(folder) / "first.parquet"
            rows.to_parquet(file, index=False)
            await publish_file(self._client, self._spec.name, file, ".parquet", content_id("first", self._run))
        await self._until(lambda: bool(self._seen.of(ModelDeployed)) or bool(self._refused()), "the first model")
        if not self._seen.of(ModelDeployed):
            raise TidemillError(f"{self._spec.name} has no first model: {'; '.join(self._refused())}")

    async def _mislead(self, row: int) -> None:
        """Where the operator errs at this row: publish their rows, and train on them alone."""
        misled = self._stream.misled
        if misled is None or misled.row != row:
            return
        arrived = await mislead.publish(self._client, self._spec.name, misled, len(self._stream), self._run)
        await self._until(lambda: arrived.id in self._finished(DatasetPrepared, DatasetRejected), "dataset of it")
        asked = await mislead.train(self._client, self._spec.name, misled)
        await self._until(lambda: asked.id in self._finished(TrainingGranted), "training on it")
        await self._calm()

    def _finished(self, *kinds: type[Any]) -> set[str]:
        """Ids of the events that led to one of these kinds."""
        return {e.causationid for _, e in self._seen.of(*kinds)}

    def _refused(self) -> list[str]:
        """Why there is no model."""
        failures = self._seen.of(DatasetRejected, TrainingFailed, PackagingFailed, ModelRejected)
        return [f"{e.type_name()}: {reason.message}" for _, e in failures for reason in e.data.reasons]

    async def _ask(self, begin: int, end: int) -> None:
        requests = [
            PredictionRequested.root(
                RequestedPrediction(features=self._stream.cells(row)),
                subject=self._spec.name,
                source=_SOURCE,
                id=self._id(row),
                time=moment(row),
            )
            for row in range(begin, end)
        ]
        self._row = end
        await self._client.bus.publish(*requests)
        ids = [self._id(row) for row in range(begin, end)]
        seen = self._seen
        await self._until(lambda: all(i in seen.answers or i in seen.failed for i in ids), f"rows {begin} to {end}")

    async def _tell(self, rows: list[int]) -> None:
        labels = [
            LabelObserved.root(
                ObservedLabel(prediction_id=self._id(row), label=self._stream.labels[row]),
                subject=self._spec.name,
                source=_SOURCE,
                id=content_id("acceptance-label", self._run, str(row)),
            )
            for row in rows
        ]
        if labels:
            await self._client.bus.publish(*labels)

    async def _returned(self, labelled: int) -> None:
        """Wait until so many labelled rows are data, or put aside because the monitor doubts them."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._seen.fed_back + sum(self._held.values()) < labelled:
            if time.monotonic() > deadline:
                raise TidemillError(f"{self._spec.name}: not {labelled} rows as data within {_PATIENCE_SECONDS:.0f} s")
            await asyncio.sleep(0.1)
            if self._seen.fed_back + sum(self._held.values()) < labelled:
                await self._count_held()

    async def _count_held(self) -> None:
        for key in await self._client.store.list(monitoring_key(self._spec.name, "held/")):
            if key not in self._held:
                data = await self._client.store.read(key)
                # Some servers list an object, and read it, before it is there as a whole: its name tells its digest.
                if data and hashlib.sha256(data).hexdigest() == PurePath(key).stem:
                    self._held[key] = data.count(b"\n")

    async def _calm(self) -> None:
        """Wait until nothing more follows: every event was handled by all who consume its kind."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            heard = self._seen.heard
            if await self._handled() and not self._seen.deploying:
                # What a handler publishes appears together with its acknowledgement, and is heard a moment later.
                await asyncio.sleep(_QUIET_SECONDS)
                if heard == self._seen.heard:
                    return
            if time.monotonic() > deadline:
                raise TidemillError(f"{self._spec.name}: not at rest within {_PATIENCE_SECONDS:.0f} s; see the logs")
            await asyncio.sleep(0.05)

    async def _handled(self) -> bool:
        redis = self._client.bus.redis
        for stream, entries in list(self._open.items()):
            groups: Any = await redis.xinfo_groups(stream) if entries else []
            for entry in sorted(entries):
                if not [g for g in groups if not await self._done(stream, g, entry)]:
                    entries.discard(entry)
        return not any(self._open.values())

    async def _done(self, stream: str, group: Any, entry: str) -> bool:
        if _order(group["last-delivered-id"].decode()) < _order(entry):
            return False
        return not await self._client.bus.redis.xpending_range(stream, group["name"], entry, entry, 1)

    async def _until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TidemillError(f"{self._spec.name}: no {what} within {_PATIENCE_SECONDS:.0f} s; see the logs")
            await asyncio.sleep(0.03)

    async def _listen(self) -> None:
        name = self._spec.name
        async for entry in follow(self._client, name, _WATCHED):
            # Many pipelines share a stream: most entries are not ours, and need no parsing.
            if name.encode() in entry.body and self._take(entry.body):
                self._open.setdefault(entry.stream, set()).add(entry.id)

    def _take(self, body: bytes) -> bool:
        """Whether it is a new event of the control plane."""
        try:
            event = parse(body)
        except InvalidEvent:
            return False
        if event.pipeline != self._spec.name or event.id in self._seen.ids:
            return False
        if isinstance(event, PredictionCompleted):
            self._seen.answers[event.data.prediction_id] = event.data.prediction
        elif isinstance(event, PredictionFailed):
            self._seen.failed.add(event.data.prediction_id)
        else:
            self._seen.ids.add(event.id)
            self._seen.events.append((self._row, event))
            self._seen.heard = time.monotonic()
            return True
        return False

    async def _learned(self) -> list[Any]:
        """Of each champion after the first, the rows it learned from."""
        trained = {e.data.version: e.data.manifest for _, e in self._seen.of(ModelTrained)}
        later = [e.data.version for _, e in self._seen.of(ModelDeployed)][1:]
        return [await learned_rows(self._client, trained[version]) for version in later]

    def _summary(self, seconds: float) -> Outcome:
        seen, stream = self._seen, self._stream
        outcome = Outcome("tidemill", stream.unanswered(), seconds=seconds)
        for row in range(stream.first, len(stream)):
            answer = seen.answers.get(self._id(row))
            outcome.predicted[row] = "" if answer is None else stream.answer(answer)
        outcome.retrains = [row for row, e in seen.of(TrainingGranted) if e.data.trigger != "first_data"]
        alarms = [e.data for _, e in seen.of(DriftDetected, PerformanceDegraded)]
        about_errors = [a.noticed_at for a in alarms if getattr(a, "kind", "concept") == "concept"]
        outcome.alarms = sorted(row_of(at) for at in about_errors)
        outcome.promotions = [row for row, e in seen.of(ModelDeployed)][1:]
        outcome.breaker = self._breaker()
        outcome.withdrawn = self._withdrawn()
        verdicts = [f"{e.data.kind}:{e.data.verdict}" for _, e in seen.of(DriftEvaluated)]
        outcome.verdicts = {v: verdicts.count(v) for v in sorted(set(verdicts))}
        refused = [e.data.reason for _, e in seen.of(RetrainSuppressed)] + ["gate" for _ in seen.of(ModelRejected)]
        outcome.refusals = {r: refused.count(r) for r in sorted(set(refused))}
        return outcome

    def _withdrawn(self) -> list[tuple[int, int]]:
        promoted: dict[str, int] = {}
        found = []
        for row, event in self._seen.of(ModelPromoted):
            if event.data.withdrawn:
                found.append((promoted[event.data.withdrawn], row))
            promoted[event.data.version] = row
        return found

    def _breaker(self) -> list[tuple[int, int | None]]:
        """It says so when it opens, since what opens it is an attempt that will not be made; a promotion closes it."""
        spells: list[tuple[int, int | None]] = []
        for row, event in self._seen.of(RetrainSuppressed, ModelPromoted):
            opened = spells[-1][0] if spells and spells[-1][1] is None else None
            if isinstance(event, RetrainSuppressed):
                if event.data.reason == "breaker_open" and opened is None:
                    spells.append((row, None))
            elif opened is not None and event.data.kind == "promotion":
                spells[-1] = (opened, row)
        return spells


def _order(entry: str) -> tuple[int, int]:
    time_, _, number = entry.partition("-")
    return int(time_), int(number)
