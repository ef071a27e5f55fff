"""After the decision: rows that arrive later are unseen by the champion and by its rival, and judge both again.

The rival of a new champion is the one before it, which comes back by itself when it proves better; the rival of a
champion that stayed is the candidate that was refused for want of evidence.
"""

from collections.abc import Sequence

from tidemill_contracts.dataset import DatasetManifest
from tidemill_contracts.events import (
    DatasetPrepared,
    ModelAnchored,
    ModelPromoted,
    ModelRejected,
    ModelValidated,
    RolloutChanged,
)
from tidemill_contracts.package import PackageManifest
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import Promotion
from tidemill_contracts.rollout import Trial
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_validation.anchoring import Anchoring
from tidemill_validation.conducting import Conducting
from tidemill_validation.domain import looks
from tidemill_validation.job import Job, Judged
from tidemill_validation.jobs import Fresh, Jobs
from tidemill_validation.owed import Owed
from tidemill_validation.packages import Packages
from tidemill_validation.promoting import Choice, Registry, announced
from tidemill_validation.reporting import Reports, comparison, gain, validated
from tidemill_validation.steps import Outcome, said
from tidemill_validation.waiting import Candidate, Waiting

log = logger(__name__)
_Told = Sequence[ModelValidated | ModelPromoted | ModelAnchored | ModelRejected | RolloutChanged]


class Baking:
    """Compares the champion with its rivals as new rows arrive."""

    def __init__(
        self,
        service: Service,
        registry: Registry,
        packages: Packages,
        anchoring: Anchoring,
        owed: Owed,
        jobs: Jobs,
        reports: Reports,
        waiting: Waiting,
        conducting: Conducting,
    ) -> None:
        self._store = service.store
        self._pipelines = service.pipelines
        self._registry = registry
        self._packages = packages
        self._anchoring = anchoring
        self._owed = owed
        self._jobs = jobs
        self._reports = reports
        self._waiting = waiting
        self._conducting = conducting

    async def on_dataset_prepared(self, event: DatasetPrepared) -> _Told | ModelAnchored | None:
        """New rows: look again, as long as a promotion or a refusal is young; one that has stood may be anchored."""
        pipeline = event.pipeline
        done = await self._registry.caused_by(event)
        if done:
            return [announced(event, done)]
        begun = await self._conducting.begun(event)
        if begun:
            return said(event, begun)
        spec = await self._pipelines.spec(pipeline)
        champion = await self._registry.champion(pipeline)
        if spec is None or champion is None:
            return None
        decided = await self._again(event, spec, champion) if spec.promotion.bake_rows else None
        if decided:
            return decided
        return await self._owed.late(event, champion) or await self._anchoring.renewed(event, spec, champion)

    async def _again(self, event: DatasetPrepared, spec: PipelineSpec, champion: Promotion) -> _Told | None:
        pipeline, rows = event.pipeline, spec.promotion.bake_rows
        if champion.kind == "promotion" and champion.previous:
            returned = await self._back(event, champion, champion.previous, rows)
            if returned:
                return returned
        trial = await self._conducting.present(champion)
        if trial:
            return await self._tried(event, champion, trial, rows)
        candidate = await self._waiting.get(pipeline)
        if candidate and candidate.against == champion.version and spec.promotion.approval == "automatic":
            return await self._second(event, champion, candidate, rows)
        return None

    async def _back(
        self, event: DatasetPrepared, champion: Promotion, previous: str, rows: int
    ) -> list[ModelValidated | ModelPromoted] | None:
        """The former champion returns when it is significantly better on rows that came after the promotion."""
        former = await self._registry.of_version(event.pipeline, previous)
        if former is None:
            return None
        package = await self._verified(former)
        fresh = await self._fresh(event, package, champion, rows)
        if fresh is None:
            return None
        judged, _, _ = await self._compared(package, champion, fresh)
        compared = judged.compared
        if compared is None or compared.low <= 0:
            return None
        reason = f"withdrawn: {previous} is better on {compared.rows} rows after it: {compared.difference:+.4f}"
        log.warning("the champion is withdrawn", pipeline=event.pipeline, version=champion.version, why=reason)
        choice = Choice(
            former.version, former.manifest, former.attestation, former.report, reason, "rollback", champion.version
        )
        promoted = await self._registry.promote(event, choice, against=(champion.version,))
        return [promoted] if promoted else None

    async def _tried(self, event: DatasetPrepared, champion: Promotion, trial: Trial, rows: int) -> Outcome | None:
        """A challenger beside the champion is stopped when it is significantly worse on rows that neither has seen."""
        package = await self._packages.verified(trial.pipeline, trial.version, trial.manifest, trial.attestation)
        fresh = await self._fresh(event, package, champion, rows)
        if fresh is None:
            return None
        judged, _, _ = await self._compared(package, champion, fresh)
        compared = judged.compared
        if compared is None or compared.high >= 0:
            return None
        reason = f"worse than the champion on {compared.rows} labelled rows after both: {compared.difference:+.4f}"
        return await self._conducting.stop(event, trial, reason, "rollout_labels")

    async def _second(
        self, event: DatasetPrepared, champion: Promotion, candidate: Candidate, rows: int
    ) -> list[ModelValidated | ModelPromoted | RolloutChanged] | None:
        """The refused candidate is promoted when rows that came after its training show the gain."""
        pipeline, version = event.pipeline, candidate.version
        package = await self._packages.verified(pipeline, version, candidate.manifest, candidate.attestation)
        fresh = await self._fresh(event, package, champion, rows)
        if fresh is None:
            return None
        judged, job, spec = await self._compared(package, champion, fresh)
        if not judged.promote:
            return None
        compared = comparison(judged.compared, champion.version, spec, job)
        report, ref = await self._reports.write(
            event.id, candidate.manifest, package, job, judged, compared, champion.version
        )
        choice = Choice(version, candidate.manifest, candidate.attestation, ref, f"on later rows: {gain(report)}")
        placed = await self._conducting.place(event, choice, spec, champion.version)
        await self._waiting.drop(pipeline)
        return [validated(event, report, ref, "automatic"), *([placed] if placed else [])]

    async def _verified(self, promotion: Promotion) -> PackageManifest:
        p = promotion
        return await self._packages.verified(p.pipeline, p.version, p.manifest, p.attestation)

    async def _fresh(
        self, event: DatasetPrepared, rival: PackageManifest, champion: Promotion, rows: int
    ) -> Fresh | None:
        """The rows unseen by both, when there are now so many that it is time to look."""
        dataset = await self._store.document(event.data.manifest, DatasetManifest)
        known = [rival, await self._verified(champion)]
        seen = [await self._store.document(package.dataset, DatasetManifest) for package in known]
        first = max(manifest.next_ordinal for manifest in seen)
        now = sum(part.rows for part in dataset.parts if part.first_ordinal >= first)
        if not looks.due(now - dataset.new_rows, now, rows):
            return None
        spec = await self._jobs.policies(rival)
        return Fresh(dataset, first, looks.confidence(spec.promotion.confidence, rows))

    async def _compared(
        self, rival: PackageManifest, promotion: Promotion, fresh: Fresh
    ) -> tuple[Judged, Job, PipelineSpec]:
        spec = await self._jobs.policies(rival)
        champion = await self._jobs.champion(promotion, rival, spec)
        job = await self._jobs.job(rival, spec, champion, fresh)
        return await self._jobs.judged(job, champion), job, spec
