"""What the monitor does with events: promotions are noted, the data plane is joined and judged batch by batch."""

import asyncio
import time
from dataclasses import dataclass

from tidemill_contracts.events import ModelDeployed, ModelPromoted
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_monitoring import rows
from tidemill_monitoring.batch import Batch, told
from tidemill_monitoring.copying import Copying
from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.findings import Evaluated, Finding
from tidemill_monitoring.domain.join import Join
from tidemill_monitoring.domain.monitor import Champion, Found, Monitor
from tidemill_monitoring.finished import Write
from tidemill_monitoring.keys import Keys
from tidemill_monitoring.memory import Memory, restored
from tidemill_monitoring.promotions import Promotions
from tidemill_monitoring.settings import MonitoringGroup
from tidemill_monitoring.translation import policy_of
from tidemill_shared.bus import Bus
from tidemill_shared.delivery import Completion, Delivery
from tidemill_shared.errors import Retryable, StoreUnavailable
from tidemill_shared.log import logger
from tidemill_shared.pipelines import Pipelines
from tidemill_shared.store import Store
from tidemill_shared.telemetry import counter, histogram

log = logger(__name__)
_STORE_PAUSE_SECONDS = 1.0
_SWEEP_SECONDS = 10.0
_SWEEP_ROWS = 128
"""Rows opened between two looks for rows to give up; a look may give up twice as many, so it keeps pace."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Findings of a batch: by the rows that were answered, that were labelled, and of the batch as a whole."""

    answered: Found
    labelled: Found
    whole: list[Finding]


class Handlers:
    """The shell around the domain: it fetches, calls, and hands over what must happen in one step."""

    def __init__(self, bus: Bus, store: Store, pipelines: Pipelines, settings: MonitoringGroup) -> None:
        self._bus = bus
        self._pipelines = pipelines
        self._settings = settings
        self._promotions = Promotions(store)
        self._calibration = Calibration()
        self._copying = Copying(bus, store, settings.copy_seconds)
        # A monitor as of a version of the stored state. It is taken out while a batch changes it, so that a batch
        # that fails leaves nothing behind; and one whose step was refused has a version nobody ever stored.
        self._monitors: dict[str, tuple[bytes | None, Monitor]] = {}
        self._swept: dict[str, float] = {}
        self._opened: dict[str, int] = {}

    async def on_model_promoted(self, event: ModelPromoted) -> None:
        """Remember the promotion and fetch its reference before the first answer by it arrives."""
        promoted = event.data
        self._promotions.note(promoted.pipeline, promoted.version, promoted.sequence, promoted.manifest)
        await self._promotions.reference(promoted.manifest)

    async def on_model_deployed(self, event: ModelDeployed) -> None:
        """The same: whichever event comes first."""
        deployed = event.data
        self._promotions.note(deployed.pipeline, deployed.version, deployed.sequence, deployed.manifest)
        await self._promotions.reference(deployed.manifest)

    async def on_stale(self, pipeline: str) -> None:
        """Another replica changed the state: ours is of no use."""
        self._monitors.pop(pipeline, None)

    async def on_batch(self, pipeline: str, deliveries: list[Delivery]) -> Completion:
        """Join the batch with what is stored, judge what became whole, and store it all in the acknowledging step."""
        spec = await self._pipelines.spec(pipeline)
        if spec is None:
            raise Retryable(f"{pipeline}: no such pipeline is declared")
        wall = time.time()
        batch = Batch.parse(deliveries, regression=spec.task == "regression")
        keys = Keys(self._bus.namespace, pipeline)
        memory = Memory(self._bus.nodes.of(keys.version), keys, self._settings)
        if pipeline not in self._monitors:
            await memory.finished.adopt()
        stored, join = await memory.read(batch.ids)
        if stored is None and await self._survived(pipeline):
            stored, join = await memory.read(batch.ids)
        monitor = await self._monitor(spec, stored, memory)
        batch.feed(join)
        expired = await self._expired(pipeline, memory, join, wall)
        champions = await self._champions(spec.name, join, monitor)
        most = self._settings.awaited_rows if batch.items else None
        found = await asyncio.to_thread(_judge, monitor, join, champions, len(expired), wall, most)
        version, writes = memory.writes(monitor, join, expired, awaited=spec.retrain.triggers, wall=wall)
        writes += self._spooled(spec, join, monitor, wall)
        self._monitors[pipeline] = (version, monitor)
        _measure(pipeline, join, [*found.answered, *found.labelled])
        step = batch.completion(found.answered, found.labelled, spec.primary, writes, (memory.keys.version, stored))
        return told(step, batch.items[-1][1], found.whole, spec.primary) if batch.items else step

    async def _monitor(self, spec: PipelineSpec, stored: bytes | None, memory: Memory) -> Monitor:
        policy = policy_of(spec)
        version, monitor = self._monitors.pop(spec.name, (None, None))
        if monitor is not None and version == stored and monitor.policy == policy:
            return monitor
        dumped = await memory.dumped()
        champion = None
        if dumped.state and dumped.state["champion"]:
            # Its reference is asked for by version: the state itself stays small and holds no documents.
            champion = await self._promoted(spec.name, dumped.state["champion"][0], beyond=0)
        return restored(policy, self._calibration, dumped, champion.reference if champion else None)

    async def _survived(self, pipeline: str) -> bool:
        """Whether a state from before Redis was lost is there now. Waits for the store as ``_promoted`` does."""
        while True:
            try:
                return await self._copying.put_back(pipeline)
            except StoreUnavailable as error:
                log.warning("waiting for the object store", pipeline=pipeline, why=str(error))
                await asyncio.sleep(_STORE_PAUSE_SECONDS)

    async def _champions(self, pipeline: str, join: Join, monitor: Monitor) -> dict[str, Champion]:
        present = monitor.champion
        versions = {row.answer.version for row in join.answered} - {present.version if present else None}
        beyond = present.sequence if present else 0
        found = {v: await self._promoted(pipeline, v, beyond=beyond) for v in sorted(versions)}
        return {version: champion for version, champion in found.items() if champion}

    async def _promoted(self, pipeline: str, version: str, *, beyond: int) -> Champion | None:
        """Waits for the store as long as it takes: the entries stay ours meanwhile, and none is given up for it."""
        while True:
            try:
                return await self._promotions.champion(pipeline, version, beyond=beyond)
            except StoreUnavailable as error:
                log.warning("waiting for the object store", pipeline=pipeline, why=str(error))
                await asyncio.sleep(_STORE_PAUSE_SECONDS)

    async def _expired(self, pipeline: str, memory: Memory, join: Join, wall: float) -> list[str]:
        opened = self._opened.get(pipeline, 0) + len(join.opened)
        if wall - self._swept.get(pipeline, 0.0) < _SWEEP_SECONDS and opened < _SWEEP_ROWS:
            self._opened[pipeline] = opened
            return []
        self._swept[pipeline], self._opened[pipeline] = wall, 0
        # What the batch itself touches is not idle, and what it finished is gone already.
        busy = {*join.touched, *join.finished}
        return [id_ for id_ in await memory.given_up(wall) if id_ not in busy]

    def _spooled(self, spec: PipelineSpec, join: Join, monitor: Monitor, wall: float) -> list[Write]:
        keys = Keys(self._bus.namespace, spec.name)
        writes = Memory.pushes(keys.log, (rows.log_item(row, wall) for row in join.answered))
        if spec.drift.feedback:
            numbered = enumerate(join.labelled, monitor.counts["labelled"] - len(join.labelled) + 1)
            items = (rows.feedback_item(row, n, spec.target, wall) for n, row in numbered)
            writes += Memory.pushes(keys.feedback, items)
        return writes


def _measure(pipeline: str, join: Join, found: Found) -> None:
    for kind, count in join.counts.items():
        counter("tidemill.monitoring.events").add(count, {"pipeline": pipeline, "kind": kind})
    for delay in join.delays:
        histogram("tidemill.monitoring.label.delay").record(max(delay, 0.0), {"pipeline": pipeline})
    for _, finding in found:
        if isinstance(finding, Evaluated):
            labels = {"pipeline": pipeline, "kind": finding.kind, "verdict": finding.verdict}
            counter("tidemill.monitoring.windows").add(1, labels)


def _judge(
    monitor: Monitor, join: Join, champions: dict[str, Champion], expired: int, wall: float, awaited: int | None
) -> Judged:
    """The domain's part of a batch; in a thread, because the first verdict on a window calibrates its thresholds."""
    monitor.counts.update(join.counts)
    monitor.counts["expired"] += expired
    answered = monitor.answered(join.answered, champions, wall)
    labelled = monitor.labelled(join.labelled, wall)
    for id_, label, at in join.corrections:
        monitor.corrected(id_, label, at)
    # A batch of nothing but dead letters names no row, and has no event that could bring further news.
    matured = [] if awaited is None else monitor.matured(wall, awaited)
    return Judged(answered, labelled, [*monitor.refused(join.refused, wall), *matured])
