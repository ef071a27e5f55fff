"""What the governor hears: triggers, new rows, and what became of its trainings. Answered at once, whatever trains."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import RedisError

from tidemill_contracts.dataset import Reason
from tidemill_contracts.envelope import Event, child_id, content_id
from tidemill_contracts.events import (
    DatasetPrepared,
    DriftDetected,
    DriftResolved,
    ModelPromoted,
    ModelRejected,
    ModelTrained,
    PackagingFailed,
    PerformanceDegraded,
    PerformanceRecovered,
    RetrainingResumed,
    TrainingFailed,
    TrainingRequested,
)
from tidemill_contracts.model import FailedTraining
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_training.domain import governor, limits
from tidemill_training.domain.state import Policy, Refusal, Run, State, Trigger
from tidemill_training.governing import SOURCE, Change, Governing, parsed, trigger_of
from tidemill_training.settings import TrainingGroup

log = logger(__name__)
ROWS_AT_FAULT = frozenset({"too_few_rows", "one_class", "missing_class", "unusable_rows"})
"""Reasons of a failed training that more rows may remove."""


class Triggers:
    """Handlers that only ask the governor."""

    def __init__(self, service: Service, settings: TrainingGroup, governing: Governing) -> None:
        self._service = service
        self._settings = settings
        self._governing = governing
        self._unknown: set[str] = set()
        """Pipelines of which neither Redis nor the store knew anything."""

    async def on_dataset_prepared(self, event: DatasetPrepared) -> None:
        """New rows: the first training, a training by number of rows, or what a waiting trigger waited for."""
        uploaded = event.data.new_rows if event.data.origin == "upload" else 0

        def change(state: State, policy: Policy, champion: str | None) -> tuple[State, Refusal | None]:
            state = governor.note_dataset(state, event.id, uploaded)
            kind = governor.data_trigger(state, policy, champion)
            if kind is None:
                return state, None
            reason = f"{state.uploaded_rows} new rows" if kind == "new_data" else "first data"
            return governor.admit(state, trigger_of(event, kind=kind, reason=reason), policy, champion)

        await self._once(event, change)

    async def on_training_requested(self, event: TrainingRequested) -> None:
        """A person asks."""
        rows, asked = event.data.rows, event.data
        trigger = trigger_of(
            event, kind="operator", since=rows.since, newest=rows.newest, force=asked.force, reason=asked.reason
        )
        await self._admit(event, trigger)

    async def on_drift_detected(self, event: DriftDetected) -> None:
        """The monitor noticed a change: train on what has arrived since, once there is enough of it."""
        drift = event.data
        trigger = trigger_of(
            event,
            kind="drift",
            about=drift.kind,
            model=drift.model_version,
            since=drift.noticed_at,
            began=drift.began_at,
            gradual=drift.course == "gradual",
            reason=f"{drift.kind} drift noticed {drift.noticed_at.isoformat()}",
        )
        await self._admit(event, trigger)

    async def on_performance_degraded(self, event: PerformanceDegraded) -> None:
        """The realized score fell below its baseline."""
        found = event.data
        trigger = trigger_of(
            event,
            kind="performance",
            about="performance",
            model=found.model_version,
            since=found.noticed_at,
            reason=f"{found.metric} {found.score:.3f}, baseline {found.baseline:.3f}",
        )
        await self._admit(event, trigger)

    async def on_drift_resolved(self, event: DriftResolved) -> None:
        """An alarm is over. A new model's arrival ends it too, and is no news here."""
        if event.data.reason == "stable":
            await self._relieve(event, event.data.kind, event.data.model_version, event.data.window.end)

    async def on_performance_recovered(self, event: PerformanceRecovered) -> None:
        """The score is back; by the same model when no row was answered by a newer one."""
        model = event.data.model_version
        if event.data.rows_to_retrain is None:
            await self._relieve(event, "performance", model)
        else:
            await self._once(event, lambda s, p, c: governor.recovered(s, model, c))

    async def on_model_trained(self, event: ModelTrained) -> None:
        """A run has ended with a model."""
        run, model = event.causationid or "", event.data.version

        def change(state: State, policy: Policy, champion: str | None) -> tuple[State, Refusal | None]:
            now, rows, cpu = datetime.now(UTC), policy.settle_rows, event.data.cpu_seconds
            return governor.finish(state, run, now, model=model, settle_rows=rows, cpu_seconds=cpu), None

        await self._once(event, change)

    async def on_training_failed(self, event: TrainingFailed) -> None:
        """A run has ended without one."""
        run, at_fault = event.data.run, any(r.code in ROWS_AT_FAULT for r in event.data.reasons)

        def change(state: State, policy: Policy, champion: str | None) -> tuple[State, Refusal | None]:
            now, cpu = datetime.now(UTC), event.data.cpu_seconds
            return governor.finish(state, run, now, model=None, rows_failed=at_fault, cpu_seconds=cpu), None

        await self._once(event, change)

    async def on_model_rejected(self, event: ModelRejected) -> None:
        """A model was not good enough: the change it was to answer still stands."""
        await self._once(event, lambda s, p, c: (governor.reject(s, event.data.version), None))

    async def on_packaging_failed(self, event: PackagingFailed) -> None:
        """A model could not be proven as a package."""
        await self._once(event, lambda s, p, c: (governor.reject(s, event.data.version), None))

    async def on_model_promoted(self, event: ModelPromoted) -> None:
        """A candidate was accepted, or a champion was withdrawn because it proved worse than the one before."""

        def change(state: State, policy: Policy, champion: str | None) -> tuple[State, Refusal | None]:
            if event.data.withdrawn:
                return governor.withdrawn(state), None
            if event.data.kind == "rollback":
                return state, None  # a person's choice says nothing about the next candidate
            return governor.promoted(state, event.data.version, datetime.now(UTC), policy.settle_rows), None

        await self._once(event, change)

    async def on_retraining_resumed(self, event: RetrainingResumed) -> None:
        """A person closes the circuit breaker: what waited for it is served."""
        log.info("the breaker was closed", pipeline=event.pipeline, by=event.data.by)
        await self._once(event, lambda s, p, c: (limits.resumed(s), None))

    async def tick(self) -> None:
        """Look at waiting triggers: their cool-down may be over, their patience too."""
        while True:
            await asyncio.sleep(self._settings.tick_seconds)
            await self.look()

    async def look(self) -> None:
        """At every pipeline, once. What cannot be looked at is tried again, and must not end the service."""
        try:
            states = await self._governing.states(self._service.pipelines.names())
        except RedisError as error:
            log.warning("cannot look at waiting triggers", why=repr(error))
            return
        for pipeline, raw in states.items():
            try:
                if raw is None:
                    await self._restore(pipeline)
                    continue
                await self._look(pipeline, parsed(raw))
                await self._governing.copy(pipeline, raw)
            except Exception as error:
                log.warning("cannot look at waiting triggers", pipeline=pipeline, why=repr(error))

    async def _look(self, pipeline: str, state: State) -> None:
        """Serve what waits and what is due by schedule, and free the place of a training that never ended."""
        self._unknown.discard(pipeline)
        run = state.running
        limit = 2 * self._settings.limit_seconds
        if run and run.attempts and (datetime.now(UTC) - run.started_at).total_seconds() > limit:
            log.error("a training never ended; its place is free again", pipeline=pipeline, run=run.id)
            await self._service.bus.publish(_lost(pipeline, run))
        elif run is None and (state.waiting or await self._scheduled(pipeline)):
            await self._governing.change(pipeline, lambda s, p, c: _scheduled(pipeline, s, p, c))

    async def _restore(self, pipeline: str) -> None:
        """Go on from the copy, at once: no event may ever come. The store is asked once for each loss of Redis."""
        if pipeline in self._unknown:
            return
        state = await self._governing.change(pipeline, lambda s, p, c: _scheduled(pipeline, s, p, c))
        if state == State():
            self._unknown.add(pipeline)

    async def _scheduled(self, pipeline: str) -> bool:
        spec = await self._service.pipelines.spec(pipeline)
        return spec is not None and spec.retrain.every_seconds is not None

    async def _relieve(self, event: Event[Any], about: str, model: str, at: datetime | None = None) -> None:
        await self._once(event, lambda s, p, c: governor.resolved(s, about, model, at))

    async def _admit(self, event: Event[Any], trigger: Trigger) -> None:
        await self._once(event, lambda s, p, c: governor.admit(s, trigger, p, c))

    async def _once(self, event: Event[Any], change: Change) -> None:
        def unless_handled(state: State, policy: Policy, champion: str | None) -> tuple[State, Refusal | None]:
            if event.id in state.handled:
                return state, None
            new, refusal = change(state, policy, champion)
            return governor.remember(new, event.id), refusal

        await self._governing.change(event.pipeline, unless_handled)


def _scheduled(pipeline: str, state: State, policy: Policy, champion: str | None) -> tuple[State, Refusal | None]:
    """With the trigger that is due by schedule, named by the time it counts from: two replicas name it alike."""
    now = datetime.now(UTC)
    state, last = governor.scheduled(state, policy, champion, now)
    if last is None:
        return state, None
    id_ = content_id("schedule", pipeline, last.isoformat())
    trigger = Trigger(id_, "schedule", now, reason=f"{policy.every_seconds:.0f} s since {last.isoformat()}")
    return governor.admit(state, trigger, policy, champion)


def _lost(pipeline: str, run: Run) -> TrainingFailed:
    reason = Reason(code="lost", message="it has not ended within its time and has no process any more")
    failed = FailedTraining(run=run.id, trigger=run.trigger.kind, dataset=run.dataset, reasons=(reason,))
    event_id = child_id(run.id, TrainingFailed.type_name(), f"{pipeline} lost")
    event = TrainingFailed.root(failed, subject=pipeline, source=SOURCE, id=event_id)
    return event.model_copy(update={"causationid": run.id, "correlationid": run.trigger.correlation or run.trigger.id})
