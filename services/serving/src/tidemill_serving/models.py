"""The models that answer now, one a pipeline, and how they change."""

import asyncio
import contextlib
import time

from tidemill_contracts.artifacts import ArtifactRef, promotion_key, promotions_prefix
from tidemill_contracts.events import ModelDeployed, ModelPromoted
from tidemill_contracts.package import PackageManifest
from tidemill_contracts.promotion import DeployedModel, Promotion
from tidemill_serving.loading import Loaded, Loader
from tidemill_serving.settings import ServingGroup
from tidemill_serving.shelf import Shelf
from tidemill_shared.append_log import AppendLog
from tidemill_shared.errors import ObjectMissing, Poison, Retryable
from tidemill_shared.log import logger
from tidemill_shared.seal import PromotionCheck
from tidemill_shared.service import Service
from tidemill_shared.telemetry import histogram

log = logger(__name__)
_ASK_SECONDS = 1.0
"""A pipeline without a model asks the registry at most this often before it refuses."""

_WAKE_SECONDS = 10.0
"""A request waits this long at most for a model that is being loaded again."""

_LOADS = 2
"""Packages loaded at once: when hundreds are asked for together, their bytes shall not be in memory together."""


class Models:
    """Champions by pipeline; the one before stays loaded for an instant return."""

    def __init__(self, service: Service, loader: Loader, check: PromotionCheck, settings: ServingGroup) -> None:
        self._service = service
        self._loader = loader
        self._check = check
        self._refresh_seconds = settings.refresh_seconds
        self._warm = False
        self.shelf = Shelf(settings.model_bytes)
        self._refused: dict[str, dict[int, Poison | ObjectMissing]] = {}
        self._asked: dict[str, float] = {}
        self._logs: dict[str, AppendLog[Promotion]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._loading = asyncio.Semaphore(_LOADS)
        self._waking: dict[str, asyncio.Task[None]] = {}

    async def get(self, pipeline: str, version: str | None = None) -> Loaded | None:
        """The model that answers for a pipeline, or the loaded one of that version; one that rests is waited for."""
        if self.shelf.resting(pipeline):
            if pipeline not in self._waking:
                self._waking[pipeline] = asyncio.create_task(self._wake(pipeline))
            # Not cancelled with one who gives up: others may wait for the same.
            await asyncio.wait([self._waking[pipeline]], timeout=_WAKE_SECONDS)
        return next((m for m in self._loaded(pipeline) if version in (None, m.version)), None)

    def _loaded(self, pipeline: str) -> list[Loaded]:
        return [m for m in (self.shelf.present(pipeline), self.shelf.previous(pipeline)) if m]

    async def _wake(self, pipeline: str) -> None:
        try:
            await self._try(pipeline)
        finally:
            del self._waking[pipeline]

    def versions(self, pipeline: str) -> list[str]:
        """Versions at hand, the one that answers first."""
        return list(dict.fromkeys(m.version for m in self._loaded(pipeline)))

    def problem(self, pipeline: str) -> str | None:
        """Why the newest promotion is not what answers, if so."""
        if self.shelf.resting(pipeline):
            return "the model made room for others and is being loaded again: ask once more"
        current = self.shelf.present(pipeline)
        newer = {s: e for s, e in self._refused.get(pipeline, {}).items() if not current or s > current.sequence}
        return str(newer[max(newer)]) if newer else None

    async def begin(self) -> None:
        """Before anything is consumed: a champion is loaded when it is asked for, or when its turn has come."""
        for pipeline in self._service.pipelines.names():
            self.shelf.rest(pipeline)
        self._service.pipelines.on_change(self._on_declared)

    @property
    def warm(self) -> bool:
        """Whether the champions were loaded that have room."""
        return self._warm

    async def watch(self) -> None:
        """Load the champions, one after the other, while those that are asked for have gone before. Then look at the
        registry now and then: a replica whose tail missed a promotion must not stay behind."""
        for pipeline in self._service.pipelines.names():
            if self.shelf.full:
                break
            if self.shelf.resting(pipeline):
                await self._try(pipeline)
        self._warm = True
        while True:
            await asyncio.sleep(self._refresh_seconds)
            for pipeline in self._service.pipelines.names():
                if not self.shelf.resting(pipeline):
                    await self._try(pipeline)

    async def ensure(self, pipeline: str) -> Loaded | None:
        """The model that answers, loaded if it rests; while there is none the registry is asked, as a group-mate may
        have announced it."""
        loaded = self.shelf.present(pipeline)
        if self.shelf.resting(pipeline):
            return await self.refresh(pipeline)
        if loaded or time.monotonic() - self._asked.get(pipeline, -_ASK_SECONDS) < _ASK_SECONDS:
            return loaded
        self._asked[pipeline] = time.monotonic()
        return await self.refresh(pipeline)

    async def refresh(self, pipeline: str) -> Loaded | None:
        """Load the newest promotion that stands up to its proof; the model at hand answers until then."""
        async with self._turns.setdefault(pipeline, asyncio.Lock()):
            registry = self._logs.setdefault(
                pipeline, AppendLog(self._service.store, promotions_prefix(pipeline), Promotion)
            )
            height = await registry.height()
            current = self.shelf.present(pipeline)
            refused = self._refused.setdefault(pipeline, {})
            for sequence in range(height, current.sequence if current else 0, -1):
                if isinstance(refused.get(sequence), Poison):
                    continue
                try:
                    loaded = await self._adopt(pipeline, sequence)
                except (Poison, ObjectMissing) as error:
                    # What is missing may come, and is tried again; one pipeline's loss stops no other.
                    refused[sequence] = error
                    log.error("promotion refused", pipeline=pipeline, sequence=sequence, why=str(error))
                else:
                    refused.pop(sequence, None)
                    return loaded
            self.shelf.sought(pipeline)
            return current

    async def _adopt(self, pipeline: str, sequence: int) -> Loaded:
        started = time.perf_counter()
        promotion = await self._promotion(pipeline, sequence)
        tried = self.shelf.tried(pipeline)
        at_hand = [*self._loaded(pipeline), *([tried] if tried else [])]
        known = next((m for m in at_hand if m.manifest == promotion.manifest), None)
        if known:
            loaded = known.promoted_again(sequence)
        else:
            async with self._loading:
                loaded = await self._loader.load(promotion)
        # A batch reads it once: a request is answered by the old model or by the new one.
        self.shelf.put(pipeline, loaded)
        seconds = time.perf_counter() - started
        histogram("tidemill.serving.load.duration").record(seconds, {"pipeline": pipeline})
        log.info("model loaded", pipeline=pipeline, version=loaded.version, seconds=round(seconds, 3))
        return loaded

    async def _promotion(self, pipeline: str, sequence: int) -> Promotion:
        key = promotion_key(pipeline, sequence)
        entry = await self._service.store.read(key)
        if entry is None:
            raise Poison("manifest", f"{key} is missing")
        return self._check.opened(entry, pipeline, sequence)

    async def package(self, pipeline: str, sequence: int) -> tuple[ArtifactRef, PackageManifest]:
        """What was promoted then, whether it answers now or not, with its manifest: sealed, judged and signed.

        Raises Poison when it does not stand up to its proof.
        """
        promotion = await self._promotion(pipeline, sequence)
        return promotion.manifest, await self._loader.verified(promotion)

    async def before(self, pipeline: str, sequence: int) -> Loaded | None:
        """The champion before promotion ``sequence``, loaded again where it is not at hand; none before the first one,
        and of a rollback none is asked for. Raises Poison, ObjectMissing, Retryable."""
        promotion = await self._promotion(pipeline, sequence)
        if promotion.kind != "promotion" or promotion.previous is None:
            return None
        former = self.shelf.previous(pipeline)
        if former and former.version == promotion.previous:
            return former
        entry = await self._promotion_of(pipeline, promotion.previous, sequence)
        if entry is None:
            return None
        async with self._loading:
            former = await self._loader.load(entry)
        self.shelf.put_behind(pipeline, former)
        return former

    async def _promotion_of(self, pipeline: str, version: str, before: int) -> Promotion | None:
        """The newest one of a version before a sequence number."""
        for sequence in range(before - 1, 0, -1):
            with contextlib.suppress(Poison):  # somebody else put that entry there
                promotion = await self._promotion(pipeline, sequence)
                if promotion.version == version:
                    return promotion
        return None

    async def on_model_promoted(self, event: ModelPromoted) -> ModelDeployed | None:
        """Load, prove, swap, and say so. An older promotion than the one that answers is history.

        Raises Poison when the package does not stand up to its proof, ObjectMissing while a part of it is not there.
        """
        started = time.perf_counter()
        sequence = event.data.sequence
        loaded = await self.refresh(event.pipeline)
        refusal = self._refused.get(event.pipeline, {}).get(sequence)
        if refusal:
            raise refusal
        if loaded is None or loaded.sequence < sequence:
            raise ObjectMissing(f"{promotion_key(event.pipeline, sequence)} is not in the registry yet")
        if loaded.sequence > sequence:
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
        """The same for the replicas whose group-mate took the event; a model that rests is left to rest."""
        if self.shelf.resting(event.pipeline):
            return
        await self._try(event.pipeline)

    async def _on_declared(self, *pipelines: str) -> None:
        """A pipeline declared while running may have promotions already, when its registry was restored."""
        for pipeline in pipelines:
            await self._try(pipeline)

    async def _try(self, pipeline: str) -> None:
        try:
            await self.refresh(pipeline)
        except Retryable as error:
            log.warning("cannot look at the registry, will look again", pipeline=pipeline, why=str(error))
