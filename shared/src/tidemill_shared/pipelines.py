"""The declared pipelines, as every service sees them."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from tidemill_contracts.artifacts import ArtifactRef, pipeline_key
from tidemill_contracts.document import content_version
from tidemill_contracts.events import PipelineDeclared
from tidemill_contracts.pipeline import DeclaredPipeline, PipelineSpec
from tidemill_shared.log import logger
from tidemill_shared.store import Store, reference

log = logger(__name__)
_AT_ONCE = 16
"""Revisions read from the store at the same time."""
_TOLD_APART = 10
"""More of them, as at a start, are one line of the log."""


class Listener(Protocol):
    """Whoever wants to know of pipelines that appeared or have a new revision."""

    async def __call__(self, *names: str) -> None:
        """After they were adopted; an error takes that back."""


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
        """Call ``listener(*names)`` whenever pipelines appear or get new revisions."""
        self._listeners.append(listener)

    async def load(self) -> None:
        """Read every declared pipeline from the store; those at hand are as good as read."""
        await self._adopt(await self._revisions("pipelines/"))

    async def on_pipeline_declared(self, event: PipelineDeclared) -> None:
        """Adopt the revision an event announces, if it is newer than the one at hand."""
        await self._adopt([event.data])

    async def declared(self, name: str) -> DeclaredPipeline | None:
        """The newest revision, asking the store when the name is unknown here."""
        if name not in self._current:
            await self._adopt(await self._revisions(f"pipelines/{name}/"))
        return self._current.get(name)

    async def spec(self, name: str) -> PipelineSpec | None:
        """The newest revision's specification, or None when nobody declared the pipeline."""
        declared = await self.declared(name)
        return declared.spec if declared else None

    async def _revisions(self, prefix: str) -> list[DeclaredPipeline]:
        turn = asyncio.Semaphore(_AT_ONCE)

        async def read(key: str) -> DeclaredPipeline | None:
            async with turn:
                data = await self._store.lasting(key, lambda data: content_version(data) == _version(key))
            return None if data is None else _declared(key, data)

        found = await asyncio.gather(*map(read, await self._store.list(prefix)))
        return [declared for declared in found if declared]

    async def _adopt(self, declared: Sequence[DeclaredPipeline]) -> None:
        new: dict[str, DeclaredPipeline] = {}
        for one in declared:
            known = new.get(one.spec.name) or self._current.get(one.spec.name)
            if known is None or known.spec.revision < one.spec.revision:
                new[one.spec.name] = one
        if not new:
            return
        before = {name: self._current[name] for name in new if name in self._current}
        self._current |= new
        try:
            for listener in self._listeners:
                await listener(*new)
        except BaseException:
            # As if they had not been seen: whoever tries again must not find them known and leave the rest undone.
            kept = {n: d for n, d in self._current.items() if new.get(n) is not d}
            self._current = before | kept
            raise
        if len(new) > _TOLD_APART:
            log.info("pipelines adopted", pipelines=len(new))
        else:
            for name, one in new.items():
                log.info("pipeline adopted", pipeline=name, revision=one.spec.revision)


def _version(key: str) -> str:
    """The last part of a revision's key, which is the digest of its bytes."""
    return key.rpartition("/")[2].removesuffix(".json")


def _declared(key: str, data: bytes) -> DeclaredPipeline:
    """A stored revision. Its version is that of its bytes: read and written again, an older one would have the fields
    that came since, and with them another version."""
    spec = PipelineSpec.from_json(data)
    return DeclaredPipeline(version=content_version(data), spec=spec, ref=reference(key, data))


async def store_pipeline(store: Store, spec: PipelineSpec) -> DeclaredPipeline:
    """Write a revision to the store; the caller then publishes ``pipeline.declared``."""
    ref: ArtifactRef = await store.put_document(pipeline_key(spec.name, spec.version), spec)
    return DeclaredPipeline(version=spec.version, spec=spec, ref=ref)
