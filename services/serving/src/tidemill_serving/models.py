"""The models that answer now, one a pipeline, and how they change."""

import asyncio
import time

from tidemill_contracts.artifacts import promotions_prefix
from tidemill_contracts.events import ModelDeployed, ModelPromoted
from tidemill_contracts.promotion import DeployedModel, Promotion
from tidemill_serving.loading import Loaded, Loader
from tidemill_shared.append_log import AppendLog
from tidemill_shared.errors import Poison
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_shared.telemetry import histogram

log = logger(__name__)


class Models:
    """Champions by pipeline; the one before stays loaded for an instant return."""

    def __init__(self, service: Service, loader: Loader) -> None:
        self._service = service
        self._loader = loader
        self._current: dict[str, Loaded] = {}
        self._previous: dict[str, Loaded] = {}
        self._broken: dict[str, str] = {}
        self._logs: dict[str, AppendLog[Promotion]] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    def get(self, pipeline: str) -> Loaded | None:
        """The model that answers for a pipeline."""
        return self._current.get(pipeline)

    def problem(self, pipeline: str) -> str | None:
        """Why the newest promotion is not what answers, if so."""
        return self._broken.get(pipeline)

    async def load_champions(self) -> None:
        """Before anything is consumed: the champion of every pipeline."""
        for pipeline in self._service.pipelines.names():
            try:
                await self.refresh(pipeline)
            except Poison as error:
                log.error("champion cannot be loaded", pipeline=pipeline, why=str(error))

    async def refresh(self, pipeline: str) -> Loaded | None:
        """Load what the registry says is champion. Raises Poison; the model at hand then goes on answering."""
        async with self._turns.setdefault(pipeline, asyncio.Lock()):
            registry = self._logs.setdefault(
                pipeline, AppendLog(self._service.store, promotions_prefix(pipeline), Promotion)
            )
            last = await registry.last()
            current = self._current.get(pipeline)
            if last is None or (current and current.sequence >= last[0]):
                return current
            started = time.perf_counter()
            try:
                loaded = await self._load(last[1])
            except Poison as error:
                self._broken[pipeline] = str(error)
                raise
            if current:
                self._previous[pipeline] = current
            # One assignment between two batches: a request is answered by the old model or by the new one.
            self._current[pipeline] = loaded
            self._broken.pop(pipeline, None)
            seconds = time.perf_counter() - started
            histogram("tidemill.serving.load.duration").record(seconds, {"pipeline": pipeline})
            log.info("model loaded", pipeline=pipeline, version=loaded.version, seconds=round(seconds, 3))
            return loaded

    async def _load(self, promotion: Promotion) -> Loaded:
        previous = self._previous.get(promotion.pipeline)
        if previous and previous.manifest == promotion.manifest:
            return Loaded(
                previous.model, previous.version, previous.dataset_version, promotion.sequence, previous.manifest
            )
        return await self._loader.load(promotion)

    async def on_model_promoted(self, event: ModelPromoted) -> ModelDeployed | None:
        """Load, prove, swap, and say so. An older promotion than the one that answers is history."""
        started = time.perf_counter()
        loaded = await self.refresh(event.pipeline)
        if loaded is None or loaded.sequence != event.data.sequence:
            return None
        deployed = DeployedModel(
            pipeline=event.pipeline,
            version=loaded.version,
            sequence=loaded.sequence,
            manifest=loaded.manifest,
            instance=self._service.bus.consumer,
            seconds=round(time.perf_counter() - started, 4),
        )
        return ModelDeployed.caused_by(event, deployed, subject=f"{event.pipeline}/{loaded.version}")

    async def follow(self, event: ModelPromoted) -> None:
        """The same for the replicas whose group-mate took the event."""
        try:
            await self.refresh(event.pipeline)
        except Poison as error:
            log.error("champion cannot be loaded", pipeline=event.pipeline, why=str(error))
