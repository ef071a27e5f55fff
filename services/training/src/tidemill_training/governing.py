"""The governor's memory: one state a pipeline in Redis, changed by compare-and-set together with what it decides."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tidemill_contracts.artifacts import dataset_log_prefix, promotions_prefix
from tidemill_contracts.dataset import DatasetManifest, PreparedDataset
from tidemill_contracts.envelope import Event, child_id
from tidemill_contracts.events import RetrainSuppressed, TrainingGranted
from tidemill_contracts.model import GrantedTraining, RowSelection, SuppressedRetrain
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import Promotion
from tidemill_contracts.streams import state_key
from tidemill_shared import telemetry
from tidemill_shared.append_log import AppendLog
from tidemill_shared.child import Child
from tidemill_shared.errors import Retryable, StaleState
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_shared.state_copies import StateCopies
from tidemill_training.counting import rows_since
from tidemill_training.domain import governor
from tidemill_training.domain.state import Facts, Policy, Refusal, Start, State, Trigger

log = logger(__name__)
_STATE = TypeAdapter(State)
_ATTEMPTS = 20
_COPY_SECONDS = 5.0
SOURCE = "urn:tidemill:training"
Change = Callable[[State, Policy, str | None], tuple[State, Refusal | None]]
"""From state, policy and champion to the new state, with what is to be said about it."""


def parsed(raw: bytes) -> State:
    """A state as it is stored."""
    return _STATE.validate_json(raw)


def policy_of(spec: PipelineSpec) -> Policy:
    """The governor's view of a specification."""
    r = spec.retrain
    return Policy(
        mode=r.mode,
        triggers=r.triggers,
        min_rows=r.min_rows,
        max_rows=r.max_rows,
        cool_down_seconds=r.cool_down_seconds,
        wait_seconds=r.wait_seconds,
        new_rows=r.new_rows,
        settle_rows=r.settle_rows,
        every_seconds=r.every_seconds,
        trainings_a_day=r.trainings_a_day,
        cpu_seconds_a_day=r.cpu_seconds_a_day,
        breaker_refusals=r.breaker_refusals,
    )


class Governing:
    """Reads the facts a decision needs, decides, and makes the decision true."""

    def __init__(self, service: Service, child: Child) -> None:
        self._bus = service.bus
        self._store = service.store
        self._pipelines = service.pipelines
        self._child = child
        self._copies = StateCopies(service.bus, service.store, "training", _COPY_SECONDS)
        self._datasets: dict[str, AppendLog[PreparedDataset]] = {}
        self._promotions: dict[str, AppendLog[Promotion]] = {}
        self._manifests: dict[str, DatasetManifest] = {}
        self._counts: dict[str, tuple[tuple[str, datetime], int]] = {}

    async def states(self, pipelines: Sequence[str]) -> dict[str, bytes | None]:
        """What is stored of each pipeline, read together; None where nothing is. Raises redis errors."""
        if not pipelines:
            return {}
        raws: Any = await self._bus.redis.mget([self._key(p) for p in pipelines])
        return dict(zip(pipelines, raws, strict=True))

    async def change(self, pipeline: str, change: Change) -> State | None:
        """Apply ``change`` and decide what waits; what is decided is published in the same atomic step.

        Returns the new state, or None for a pipeline nobody declared.
        """
        spec = await self._pipelines.spec(pipeline)
        if spec is None:
            log.warning("nobody declared this pipeline", pipeline=pipeline)
            return None
        policy, key = policy_of(spec), self._key(pipeline)
        for _ in range(_ATTEMPTS):
            raw: Any = await self._bus.redis.get(key)
            state = parsed(raw) if raw else await self._survived(pipeline)
            champion = await self._champion(pipeline)
            changed, refusal = change(state, policy, champion)
            dataset = await self._dataset(pipeline) if changed.waiting else None
            facts = await self._facts(changed, champion, dataset)
            new, said = governor.settle(changed, policy, facts, datetime.now(UTC))
            said = (refusal, *said) if refusal else said
            if new == (state if raw else State()) and not said:
                return new
            outputs = [await self._event(pipeline, decision, dataset) for decision in said]
            try:
                await self._bus.commit(outputs, writes=[("SET", key, _STATE.dump_json(new))], guard=(key, raw))
            except StaleState:
                continue
            return new
        raise Retryable(f"{pipeline}: the governor's state kept changing")

    async def copy(self, pipeline: str, raw: bytes) -> None:
        """Copy the stored state to the store when it has changed. Raises StoreUnavailable, redis errors."""
        if await self._copies.due(pipeline, raw):
            await self._copies.write(pipeline, raw, raw)

    async def _survived(self, pipeline: str) -> State:
        """What was copied before Redis was lost; nothing for a pipeline that is new. Raises StoreUnavailable."""
        copy = await self._copies.read(pipeline)
        if copy is None:
            return State()
        try:
            state = parsed(copy)
        except ValidationError as error:
            log.error("the copy of the governor's state cannot be read", pipeline=pipeline, why=str(error)[:500])
            return State()
        log.warning("Redis has no state of the governor: it goes on from the copy", pipeline=pipeline)
        return governor.survived(state)

    def _key(self, pipeline: str) -> str:
        return state_key(self._bus.namespace, "training", f"governor:{pipeline}")

    async def _dataset(self, pipeline: str) -> PreparedDataset | None:
        new = AppendLog(self._store, dataset_log_prefix(pipeline), PreparedDataset)
        last = await self._datasets.setdefault(pipeline, new).last()
        return last[1] if last else None

    async def _champion(self, pipeline: str) -> str | None:
        new = AppendLog(self._store, promotions_prefix(pipeline), Promotion)
        last = await self._promotions.setdefault(pipeline, new).last()
        return last[1].version if last else None

    async def _facts(self, state: State, champion: str | None, dataset: PreparedDataset | None) -> Facts:
        if dataset is None:
            return Facts(champion=champion)
        since = state.queued.since if state.queued else None
        if since is None:
            return Facts(dataset.version, champion)
        if dataset.version not in self._manifests:
            # Only the newest of a pipeline is asked for again.
            self._manifests = {k: m for k, m in self._manifests.items() if m.pipeline != dataset.pipeline}
            self._manifests[dataset.version] = await self._store.document(dataset.manifest, DatasetManifest)
        # A storm of alarms asks the same question again and again, and the answer may take a process.
        asked = (dataset.version, since)
        question, rows = self._counts.get(dataset.pipeline, (None, 0))
        if question != asked:
            rows = await rows_since(self._manifests[dataset.version], since, self._store, self._child)
            self._counts[dataset.pipeline] = asked, rows
        return Facts(dataset.version, champion, rows)

    async def _event(self, pipeline: str, decision: Start | Refusal, dataset: PreparedDataset | None) -> Event[Any]:
        event: Event[Any]
        if isinstance(decision, Refusal):
            event = _suppressed(pipeline, decision)
        else:
            if dataset is None:
                raise Retryable(f"{pipeline}: its dataset is not in the log yet")
            declared = await self._pipelines.declared(pipeline)
            spec = declared.ref if declared else dataset.spec
            event = _granted(pipeline, decision, dataset, spec)
        trigger = decision.trigger
        lineage = {"causationid": trigger.id, "correlationid": trigger.correlation or trigger.id}
        return telemetry.traced(event.model_copy(update=lineage))


def trigger_of(event: Event[Any], **facts: Any) -> Trigger:
    """A trigger from the event that pulls it."""
    return Trigger(id=event.id, asked_at=datetime.now(UTC), correlation=event.correlationid, **facts)


def _suppressed(pipeline: str, refusal: Refusal) -> RetrainSuppressed:
    # One trigger may be refused more than once, for different reasons.
    name = f"{refusal.reason} {hashlib.sha256(refusal.message.encode()).hexdigest()[:8]}"
    return RetrainSuppressed.root(
        SuppressedRetrain(
            trigger=refusal.trigger.kind,
            reason=refusal.reason,
            message=refusal.message,
            queued=refusal.queued,
            not_before=refusal.not_before,
        ),
        subject=pipeline,
        source=SOURCE,
        id=child_id(refusal.trigger.id, RetrainSuppressed.type_name(), f"{pipeline} {name}"),
    )


def _granted(pipeline: str, start: Start, dataset: PreparedDataset, spec: Any) -> TrainingGranted:
    trigger = start.trigger
    return TrainingGranted.root(
        GrantedTraining(
            trigger=trigger.kind,
            reason=trigger.reason[:500],
            rows=RowSelection(since=trigger.since, newest=start.newest),
            dataset=dataset.manifest,
            dataset_version=dataset.version,
            spec=spec,
            causes=(trigger.id, *trigger.causes),
        ),
        subject=pipeline,
        source=SOURCE,
        id=trigger.run,
    )
