"""The governor's memory: one state a pipeline in Redis, changed by compare-and-set together with what it decides."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from tidemill_contracts.artifacts import dataset_log_prefix, promotions_prefix
from tidemill_contracts.dataset import DatasetManifest, PreparedDataset
from tidemill_contracts.envelope import Event, child_id
from tidemill_contracts.events import RetrainSuppressed, TrainingGranted
from tidemill_contracts.model import GrantedTraining, RowSelection, SuppressedRetrain
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import Promotion
from tidemill_contracts.streams import state_key
from tidemill_shared.append_log import AppendLog
from tidemill_shared.bus import Bus
from tidemill_shared.errors import Retryable, StaleState
from tidemill_shared.pipelines import Pipelines
from tidemill_shared.store import Store
from tidemill_training.domain.governor import Decision, Policy, Refusal, Start, State, Trigger

_STATE = TypeAdapter(State)
_ATTEMPTS = 20
Change = Callable[[State, Policy], Awaitable[tuple[State, Decision]]]


def policy_of(spec: PipelineSpec) -> Policy:
    """The governor's view of a specification."""
    r = spec.retrain
    return Policy(r.mode, r.min_rows, r.max_rows, r.cool_down_seconds, r.wait_seconds, r.new_rows)


def run_id(trigger_id: str, pipeline: str) -> str:
    """The id of the training that a trigger becomes."""
    return child_id(trigger_id, TrainingGranted.type_name(), pipeline)


class Governing:
    """Reads the facts a decision needs, decides, and makes the decision true."""

    def __init__(self, bus: Bus, store: Store, pipelines: Pipelines) -> None:
        self._bus = bus
        self._store = store
        self._pipelines = pipelines
        self._datasets: dict[str, AppendLog[PreparedDataset]] = {}
        self._promotions: dict[str, AppendLog[Promotion]] = {}

    async def change(self, pipeline: str, change: Change) -> None:
        """Apply ``change`` to the pipeline's state; what it decides is published in the same atomic step."""
        spec = await self._pipelines.spec(pipeline)
        if spec is None:
            return
        key = state_key(self._bus.namespace, "training", f"governor:{pipeline}")
        for _ in range(_ATTEMPTS):
            raw: Any = await self._bus.redis.get(key)
            state = _STATE.validate_json(raw) if raw else await self._initial(pipeline)
            new, decision = await change(state, policy_of(spec))
            if new == state and decision is None:
                return
            outputs = [await self._publishable(pipeline, decision)] if decision else []
            try:
                await self._bus.commit(outputs, writes=[("SET", key, _STATE.dump_json(new))], guard=(key, raw))
            except StaleState:
                continue
            return
        raise Retryable(f"{pipeline}: the governor's state kept changing")

    async def _initial(self, pipeline: str) -> State:
        """What the store still knows when Redis knows nothing (or nothing yet)."""
        state = State()
        if await self.champion(pipeline):
            dataset = await self.dataset(pipeline)
            state = replace(state, trained=1, dataset=dataset.version if dataset else None)
        return state

    async def dataset(self, pipeline: str) -> PreparedDataset | None:
        """The newest dataset version."""
        log = self._datasets.setdefault(pipeline, AppendLog(self._store, dataset_log_prefix(pipeline), PreparedDataset))
        last = await log.last()
        return last[1] if last else None

    async def champion(self, pipeline: str) -> str | None:
        """The promoted model's version."""
        log = self._promotions.setdefault(pipeline, AppendLog(self._store, promotions_prefix(pipeline), Promotion))
        last = await log.last()
        return last[1].version if last else None

    async def rows(self, pipeline: str, since: datetime | None) -> int:
        """Live rows of the newest dataset with event time ``since`` or later."""
        from tidemill_training.domain.rows import count_since

        dataset = await self.dataset(pipeline)
        if dataset is None:
            return 0
        if since is None:
            return sum(dataset.rows.values())
        manifest = await self._store.document(dataset.manifest, DatasetManifest)
        total = 0
        for part in manifest.parts:
            if part.time_max is None or part.time_max < since or part.last_ordinal < manifest.from_ordinal:
                continue
            whole = part.time_min is not None and part.time_min >= since
            if whole and part.first_ordinal >= manifest.from_ordinal:
                total += part.rows
            else:
                total += count_since(await self._store.cached(part.file), since, manifest.from_ordinal)
        return total

    async def _publishable(self, pipeline: str, decision: Start | Refusal) -> Event[Any]:
        trigger = decision.trigger
        lineage = {"causationid": trigger.id, "correlationid": trigger.correlation or trigger.id}
        if isinstance(decision, Refusal):
            refused = SuppressedRetrain.model_validate(
                {
                    "trigger": trigger.kind,
                    "reason": decision.reason,
                    "message": decision.message,
                    "queued": decision.queued,
                    "not_before": decision.not_before,
                }
            )
            # One trigger may be refused more than once, for different reasons.
            name = f"{decision.reason} {hashlib.sha256(decision.message.encode()).hexdigest()[:8]}"
            event_id = child_id(trigger.id, RetrainSuppressed.type_name(), f"{pipeline} {name}")
            suppressed = RetrainSuppressed.root(refused, subject=pipeline, source="urn:tidemill:training", id=event_id)
            return suppressed.model_copy(update=lineage)
        dataset = await self.dataset(pipeline)
        if dataset is None:
            raise Retryable(f"{pipeline}: its dataset is not in the log yet")
        granted = GrantedTraining.model_validate(
            {
                "trigger": trigger.kind,
                "reason": trigger.reason,
                "rows": RowSelection(since=trigger.since, newest=decision.newest),
                "dataset": dataset.manifest,
                "dataset_version": dataset.version,
                "spec": dataset.spec,
            }
        )
        event = TrainingGranted.root(
            granted, subject=pipeline, source="urn:tidemill:training", id=run_id(trigger.id, pipeline)
        )
        return event.model_copy(update=lineage)


def trigger_of(event: Event[Any], kind: str, **facts: Any) -> Trigger:
    """A trigger from the event that pulls it."""
    known: dict[str, Any] = {
        "id": event.id,
        "kind": kind,
        "asked_at": datetime.now(UTC),
        "correlation": event.correlationid,
    }
    return Trigger(**(known | facts))
