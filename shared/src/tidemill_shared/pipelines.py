"""The declared pipelines, as every service sees them."""

from collections.abc import Awaitable, Callable

from tidemill_contracts.artifacts import ArtifactRef, pipeline_key
from tidemill_contracts.document import content_version
from tidemill_contracts.events import PipelineDeclared
from tidemill_contracts.pipeline import DeclaredPipeline, PipelineSpec
from tidemill_shared.log import logger
from tidemill_shared.store import Store, reference

log = logger(__name__)
Listener = Callable[[str], Awaitable[None]]


class Pipelines:
    """Current revisions by name: read from the store at start, then kept up by ``pipeline.declared``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._current: dict[str, DeclaredPipeline] = {}
        self._listeners: list[Listener] = []

    def names(self) -> list[str]:
        """Names of all declared pipelines, sorted."""
        return sorted(self._current)

    def on_change(self, listener: Listener) -> None:
        """Call ``listener(name)`` whenever a pipeline appears or gets a new revision."""
        self._listeners.append(listener)

    async def load(self) -> None:
        """Read every declared pipeline from the store."""
        for key in await self._store.list("pipelines/"):
            data = await self._store.read(key)
            if data is not None:
                await self._adopt(_declared(key, data))

    async def on_pipeline_declared(self, event: PipelineDeclared) -> None:
        """Adopt the revision an event announces, if it is newer than the one at hand."""
        await self._adopt(event.data)

    async def declared(self, name: str) -> DeclaredPipeline | None:
        """The newest revision, asking the store when the name is unknown here."""
        if name not in self._current:
            for key in await self._store.list(f"pipelines/{name}/"):
                data = await self._store.read(key)
                if data is not None:
                    await self._adopt(_declared(key, data))
        return self._current.get(name)

    async def spec(self, name: str) -> PipelineSpec | None:
        """The newest revision's specification, or None when nobody declared the pipeline."""
        declared = await self.declared(name)
        return declared.spec if declared else None

    async def _adopt(self, declared: DeclaredPipeline) -> None:
        name = declared.spec.name
        known = self._current.get(name)
        if known and known.spec.revision >= declared.spec.revision:
            return
        self._current[name] = declared
        try:
            for listener in self._listeners:
                await listener(name)
        except BaseException:
            # As if it had not been seen: whoever tries again must not find it known and leave the rest undone.
            self._current = {n: d for n, d in self._current.items() if d is not declared}
            if known:
                self._current.setdefault(name, known)
            raise
        log.info("pipeline adopted", pipeline=name, revision=declared.spec.revision)


def _declared(key: str, data: bytes) -> DeclaredPipeline:
    """A stored revision. Its version is that of its bytes: read and written again, an older one would have the fields
    that came since, and with them another version."""
    spec = PipelineSpec.from_json(data)
    return DeclaredPipeline(version=content_version(data), spec=spec, ref=reference(key, data))


async def store_pipeline(store: Store, spec: PipelineSpec) -> DeclaredPipeline:
    """Write a revision to the store; the caller then publishes ``pipeline.declared``."""
    ref: ArtifactRef = await store.put_document(pipeline_key(spec.name, spec.version), spec)
    return DeclaredPipeline(version=spec.version, spec=spec, ref=ref)
