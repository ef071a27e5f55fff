"""Judgements: what is judged, beside whom, by which rows; and the child process that does it."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tidemill_contracts.dataset import DatasetManifest, Part
from tidemill_contracts.model import ModelManifest
from tidemill_contracts.package import PackageManifest
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import Promotion
from tidemill_shared.child import Child
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_validation.anchoring import Anchoring
from tidemill_validation.job import UNBOUND, Checked, Guard, Job, Judged, unanswered
from tidemill_validation.packages import DAMAGED, Champion, Packages
from tidemill_validation.settings import ValidationGroup
from tidemill_validation.work import judge

log = logger(__name__)
_RECENT_ROWS = 1_000
"""Rows, of all splits, by which the champion is asked whether the world is as before; older parts are not fetched."""


@dataclass(frozen=True)
class Fresh:
    """Rows of a dataset that arrived after two models were trained: unseen by both, whatever their split."""

    dataset: DatasetManifest
    first_ordinal: int
    confidence: float


class Jobs:
    """Prepares judgements and has them made."""

    def __init__(
        self, service: Service, packages: Packages, anchoring: Anchoring, child: Child, settings: ValidationGroup
    ) -> None:
        self._store = service.store
        self._pipelines = service.pipelines
        self._packages = packages
        self._anchoring = anchoring
        self._settings = settings
        self._child = child

    async def policies(self, package: PackageManifest) -> PipelineSpec:
        """Today's policies, if they are about the same question; else those the model was made for."""
        own = await self._store.document(package.spec, PipelineSpec)
        today = await self._pipelines.spec(package.pipeline)
        return today if today and (today.task, today.target) == (own.task, own.target) else own

    async def champion(
        self, promotion: Promotion | None, package: PackageManifest, spec: PipelineSpec
    ) -> Champion | None:
        """The champion as what ``package`` is compared with."""
        return await self._packages.champion(promotion, package, spec.target) if promotion else None

    async def job(
        self, package: PackageManifest, spec: PipelineSpec, champion: Champion | None, fresh: Fresh | None = None
    ) -> Job:
        """A judgement on the newest test rows, or on all ``fresh`` ones."""
        dataset = fresh.dataset if fresh else await self._store.document(package.dataset, DatasetManifest)
        model = await self._packages.model(package)
        # After a change that one of the two answered, older rows are from another world.
        changes = [s for s in (model.selection.since, champion.since if champion else None) if s is not None]
        since = max(changes, default=None)
        policy = spec.promotion
        same = champion is not None and champion.version == package.version
        return Job(
            challenger=await self._packages.candidate(package),
            champion=champion.candidate if champion and not same else None,
            task=package.task,
            target=spec.target,
            classes=dataset.classes,
            metric=spec.primary,
            test=await self._rows(dataset, since, fresh),
            from_ordinal=max(dataset.from_ordinal, fresh.first_ordinal) if fresh else dataset.from_ordinal,
            since=since,
            newest_rows=policy.newest_rows,
            min_rows=self._settings.min_rows,
            goals={str(k): v for k, v in policy.goals.items()},
            confidence=fresh.confidence if fresh else policy.confidence,
            margin=policy.margin,
            max_latency_ms=policy.max_latency_ms,
            max_batch_latency_ms=policy.max_batch_latency_ms,
            resamples=self._settings.resamples,
            seed=model.seed,
            costs=_costs(policy.costs, dataset.classes),
            slices=policy.slices,
            slice_rows=policy.slice_rows,
            slice_margin=policy.slice_margin,
            guard=await self._guard(package, model, spec, dataset) if champion and policy.anchor != "off" else None,
            pipeline=package.pipeline,
            version=package.version,
        )

    async def _guard(
        self, package: PackageManifest, model: ModelManifest, spec: PipelineSpec, dataset: DatasetManifest
    ) -> Guard | None:
        """The anchor and its golden set. One that is damaged protects nobody, as a champion that is."""
        anchor = await self._anchoring.current(package.pipeline)
        if anchor is None or anchor.target != spec.target or anchor.version == package.version:
            return None
        since = model.selection.since
        try:
            candidate = await self._packages.candidate(await self._packages.promoted(anchor))
            golden = await self._store.cached(anchor.golden)
        except DAMAGED as error:
            log.error("the anchor cannot be read", pipeline=package.pipeline, version=anchor.version, why=str(error))
            return None
        recent = [await self._store.cached(part.file) for part in _newest(dataset, since)] if since else []
        return Guard(candidate, golden, since, tuple(recent), spec.drift.recovered_share)

    async def _rows(self, dataset: DatasetManifest, since: datetime | None, fresh: Fresh | None) -> tuple[Path, ...]:
        """Verified local copies of the parts that can hold rows to judge by, oldest first."""
        first = max(dataset.from_ordinal, fresh.first_ordinal) if fresh else dataset.from_ordinal
        parts = [p for p in dataset.parts if (fresh or p.split == "test") and p.last_ordinal >= first]
        parts = [p for p in parts if since is None or (p.time_max is not None and p.time_max >= since)]
        return tuple([await self._store.cached(p.file) for p in sorted(parts, key=lambda part: part.first_ordinal)])

    async def judged(self, job: Job, champion: Champion | None) -> Judged:
        """The judgement, made in a child process."""
        try:
            judged = await self._child.run(judge, job, timeout_seconds=self._settings.limit_seconds)
        except TimeoutError:
            return unanswered("too_slow", f"not judged within {self._settings.limit_seconds:.0f} s")
        for check in judged.checks:
            if check.code == UNBOUND:
                log.error("the golden set does not bind", pipeline=job.pipeline, version=job.version, why=check.message)
        if champion and champion.why:
            judged = judged.with_check(Checked("champion", passed=True, message=champion.why))
        return judged


def _newest(dataset: DatasetManifest, since: datetime) -> list[Part]:
    """The newest live parts of all splits that hold rows from ``since`` on, oldest first."""
    live = [p for p in dataset.parts if p.last_ordinal >= dataset.from_ordinal]
    late = [p for p in live if p.time_max is not None and p.time_max >= since]
    found: list[Part] = []
    for part in sorted(late, key=lambda p: p.last_ordinal, reverse=True):
        if sum(p.rows for p in found) >= _RECENT_ROWS:
            break
        found.append(part)
    return found[::-1]


def _costs(
    stated: dict[str, dict[str, float]] | None, classes: tuple[Any, ...]
) -> tuple[tuple[float, ...], ...] | None:
    """The matrix over these classes: what is not stated costs nothing where the answer is right, and 1 elsewhere."""
    if stated is None:
        return None
    return tuple(tuple(stated.get(str(t), {}).get(str(a), float(t != a)) for a in classes) for t in classes)
