"""Anchors: the model, and the frozen rows, that later challengers are measured by.

The first champion is the anchor, with the test rows it was judged by. Another one takes its place when an answer to an
alarm has kept its own place for ``bake_rows`` rows, or when a person says so; nothing else moves it.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tidemill_contracts.artifacts import anchor_key, anchors_prefix, dataset_log_prefix, golden_key
from tidemill_contracts.dataset import DatasetManifest, PreparedDataset
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import AnchorRequested, DatasetPrepared, ModelAnchored
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import Anchor, AnchoredModel, Promotion
from tidemill_shared.append_log import AppendLog
from tidemill_shared.child import Child
from tidemill_shared.errors import Poison
from tidemill_shared.log import logger
from tidemill_shared.seal import OperatorCheck, PromotionSeal
from tidemill_shared.service import Service
from tidemill_shared.store import reference
from tidemill_validation.packages import Packages
from tidemill_validation.promoting import Registry
from tidemill_validation.sealed_log import SealedLog
from tidemill_validation.work import freeze

log = logger(__name__)


class Anchoring:
    """Reads and appends anchors."""

    def __init__(
        self,
        service: Service,
        seal: PromotionSeal,
        operator: OperatorCheck,
        registry: Registry,
        packages: Packages,
        child: Child,
        least: int,
    ) -> None:
        self._store = service.store
        self._bus = service.bus
        self._pipelines = service.pipelines
        self._seal = seal
        self._operator = operator
        self._registry = registry
        self._packages = packages
        self._child = child
        self._least = least
        self._log = SealedLog(service.store, Anchor, anchors_prefix, seal.check.opened_anchor)

    async def current(self, pipeline: str) -> Anchor | None:
        """The present anchor; an entry that somebody else put there is none."""
        return await self._log.newest(pipeline)

    async def _caused_by(self, cause: Event[Any]) -> Anchor | None:
        """The anchor that this event has led to, however long ago: what is signed stays signed, and may come again."""
        return await self._log.newest(cause.pipeline, lambda anchor: anchor.cause == cause.id)

    async def on_anchor_requested(self, event: AnchorRequested) -> ModelAnchored:
        """A person makes the present champion the anchor. Raises Poison where it is not the model the person meant, or
        where another anchor has followed."""
        asked, pipeline = event.data, event.pipeline
        if asked.version is None or asked.anchor is None:
            why = "the request does not say which champion and which anchor it was asked before"
            raise Poison("no_version", f"{pipeline}: {why}; look, and ask again with `tidemill anchor {pipeline}`")
        self._operator.check(event)
        done = await self._caused_by(event)
        if done:
            return announced(event, done)
        champion = await self._registry.champion(pipeline)
        if champion and champion.version != asked.version:
            why = f"it is about {asked.version}, and the champion is {champion.version} by now"
            raise Poison("another_champion", f"{pipeline}: {why}; look again and ask again")
        reason = f"anchored by {asked.by}" + (f": {asked.reason}" if asked.reason else "")
        anchored = await self._chosen(event, champion, reason, asked.since, after=asked.anchor)
        if anchored is None:
            why = "it needs a champion, enough test rows, and promotion.anchor other than off"
            raise Poison("not_anchored", f"{pipeline}: nothing was anchored; {why}")
        return anchored

    async def _chosen(
        self,
        event: Event[Any],
        champion: Promotion | None,
        reason: str,
        since: datetime | None,
        *,
        after: int | None = None,
    ) -> ModelAnchored | None:
        """Anchor the champion, unless the pipeline wants no anchor: on its own test rows, or on the newest ones from
        ``since`` on."""
        spec = await self._pipelines.spec(event.pipeline)
        if champion is None or spec is None or spec.promotion.anchor == "off":
            return None
        prepared = AppendLog(self._store, dataset_log_prefix(event.pipeline), PreparedDataset)
        newest = await prepared.last() if since else None
        dataset = await self._store.document(newest[1].manifest, DatasetManifest) if newest else None
        return await self.anchored(event, champion, spec, reason, dataset=dataset, since=since, after=after)

    async def renewed(self, event: DatasetPrepared, spec: PipelineSpec, champion: Promotion) -> ModelAnchored | None:
        """After new rows: the first anchor, or the next one once an answer to an alarm has proven itself."""
        if spec.promotion.anchor == "off":
            return None
        anchor = await self.current(event.pipeline)
        if anchor is None or anchor.target != spec.target:
            return await self.anchored(event, champion, spec, "the first model with a golden set")
        if anchor.cause == event.id:
            return announced(event, anchor)
        if spec.promotion.anchor == "person" or champion.version == anchor.version or champion.kind != "promotion":
            return None
        package = await self._packages.promoted(champion)
        since = (await self._packages.model(package)).selection.since
        if since is None or not spec.promotion.bake_rows:
            return None
        dataset = await self._store.document(event.data.manifest, DatasetManifest)
        seen = (await self._store.document(package.dataset, DatasetManifest)).next_ordinal
        later = sum(part.rows for part in dataset.parts if part.first_ordinal >= seen)
        if later < spec.promotion.bake_rows:
            return None
        reason = f"it answered the alarm of {since.isoformat()} and kept its place for {later} rows"
        return await self.anchored(event, champion, spec, reason, dataset=dataset, since=since)

    async def anchored(
        self,
        event: Event[Any],
        champion: Promotion,
        spec: PipelineSpec,
        reason: str,
        *,
        dataset: DatasetManifest | None = None,
        since: datetime | None = None,
        after: int | None = None,
    ) -> ModelAnchored | None:
        """Anchor ``champion`` on the test rows of ``dataset`` (else of its own) from ``since`` on (else from its own
        change on); None where they are too few to say anything. The same cause twice appends once. Raises Poison when
        the log has another height than ``after``."""
        pipeline = event.pipeline
        package = await self._packages.promoted(champion)
        dataset = dataset or await self._store.document(package.dataset, DatasetManifest)
        since = since or (await self._packages.model(package)).selection.since
        async with self._bus.lock(f"anchor:{pipeline}"):
            done = await self._caused_by(event)
            if done:
                return announced(event, done)
            height = await self._log.height(pipeline)
            if after is not None and after != height:
                why = f"it was asked before anchor {after + 1}, and there are {height} by now"
                raise Poison("another_anchor", f"{pipeline}: {why}; look again and ask again")
            with TemporaryDirectory() as folder:
                file = Path(folder) / "golden.parquet"
                rows = await self._frozen(dataset, since, spec.promotion.newest_rows, file)
                if rows < self._least:
                    log.info("too few test rows to anchor", pipeline=pipeline, version=champion.version, rows=rows)
                    return None
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                golden = await self._store.put_file(golden_key(pipeline, digest), file)
            anchor = Anchor(
                pipeline=pipeline,
                sequence=height + 1,
                version=champion.version,
                manifest=champion.manifest,
                attestation=champion.attestation,
                golden=golden,
                rows=rows,
                target=spec.target,
                reason=reason[:500],
                cause=event.id,
                anchored_at=datetime.now(UTC),
            )
            anchor = self._seal.sealed(anchor)
            await self._log.append(pipeline, anchor.sequence, anchor)
        log.info("anchored", pipeline=pipeline, version=anchor.version, sequence=anchor.sequence, rows=rows)
        return announced(event, anchor)

    async def _frozen(self, dataset: DatasetManifest, since: datetime | None, newest: int, file: Path) -> int:
        parts = [p for p in dataset.parts if p.split == "test" and p.last_ordinal >= dataset.from_ordinal]
        parts = [p for p in parts if since is None or (p.time_max is not None and p.time_max >= since)]
        ordered = sorted(parts, key=lambda part: part.first_ordinal)
        paths = tuple([await self._store.cached(part.file) for part in ordered])
        return await self._child.run(freeze, paths, dataset.from_ordinal, since, newest, file) if paths else 0


def announced(cause: Event[Any], anchor: Anchor) -> ModelAnchored:
    """The event of an entry."""
    data = AnchoredModel(
        pipeline=anchor.pipeline,
        version=anchor.version,
        sequence=anchor.sequence,
        anchor=reference(anchor_key(anchor.pipeline, anchor.sequence), anchor.to_json()),
        golden=anchor.golden,
        rows=anchor.rows,
        reason=anchor.reason,
    )
    return ModelAnchored.caused_by(cause, data, subject=f"{anchor.pipeline}/{anchor.version}")
