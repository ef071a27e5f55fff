"""What the judge does with each event."""

import time
from datetime import datetime
from pathlib import Path

from tidemill_contracts.artifacts import ArtifactRef, package_key
from tidemill_contracts.dataset import DatasetManifest
from tidemill_contracts.events import (
    ModelApproved,
    ModelPackaged,
    ModelPromoted,
    ModelRejected,
    ModelValidated,
    RollbackRequested,
)
from tidemill_contracts.package import PackageManifest
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import RejectedModel, ValidatedModel, ValidationReport
from tidemill_shared.child import Bounds, Child
from tidemill_shared.errors import Poison
from tidemill_shared.log import logger
from tidemill_shared.seal import OperatorCheck, PromotionSeal
from tidemill_shared.service import Service
from tidemill_shared.signing import Verifier
from tidemill_shared.store import reference
from tidemill_shared.telemetry import counter, histogram
from tidemill_validation.job import Checked, Job, Judged, unanswered
from tidemill_validation.packages import Champion, Packages
from tidemill_validation.promoting import Choice, Registry, announced
from tidemill_validation.reporting import Reports, comparison
from tidemill_validation.settings import ValidationGroup
from tidemill_validation.work import PRELOAD, judge

log = logger(__name__)
FIRST = "the first model that passed"


class Judge:
    """Judges packages, promotes, rolls back."""

    def __init__(
        self,
        service: Service,
        verifier: Verifier,
        seal: PromotionSeal,
        operator: OperatorCheck,
        settings: ValidationGroup,
        code_version: str,
    ) -> None:
        self._store = service.store
        self._pipelines = service.pipelines
        self._settings = settings
        self._packages = Packages(service.store, verifier)
        self._reports = Reports(service.store, code_version)
        self._registry = Registry(service, seal)
        self._operator = operator
        self.child = Child(PRELOAD, service="validation", bounds=Bounds.of_machine())

    async def on_model_packaged(self, event: ModelPackaged) -> list[ModelValidated | ModelPromoted] | ModelRejected:
        """Verify, judge, report, and promote what has proven better."""
        done = await self._registry.caused_by(event)
        if done:  # a crash came between the registry and the events
            report = await self._store.document(done.report, ValidationReport)
            return [_validated(event, report, done.report, "automatic"), announced(event, done)]
        started = time.monotonic()
        data = event.data
        package = await self._packages.verified(event.pipeline, data.version, data.manifest, data.attestation)
        spec = await self._policies(package)
        champion = await self._champion(package, spec)
        job = await self._job(package, spec, champion)
        judged = await self._judged(job, champion)
        compared = comparison(judged.compared, champion.version if champion else None, spec, job)
        report, ref = await self._reports.write(event, package, job, judged, compared)
        outcome = "rejected" if not report.promote else "validated"
        counter("tidemill.validation.judgements").add(1, {"pipeline": event.pipeline, "outcome": outcome})
        histogram("tidemill.validation.duration").record(time.monotonic() - started, {"pipeline": event.pipeline})
        log.info("judged", pipeline=event.pipeline, version=data.version, outcome=outcome, rows=report.rows)
        if not report.promote:
            return _rejected(event, report, ref)
        approval = spec.promotion.approval
        events: list[ModelValidated | ModelPromoted] = [_validated(event, report, ref, approval)]
        if approval == "automatic":
            reason = next((c.message for c in report.checks if c.name == "better"), FIRST)
            choice = Choice(data.version, data.manifest, data.attestation, ref, reason)
            promoted = await self._registry.promote(event, choice, against=(champion.version,) if champion else (None,))
            events += [promoted] if promoted else []
        return events

    async def on_model_approved(self, event: ModelApproved) -> ModelPromoted | None:
        """A person approved: promote the version if a passing report for it exists."""
        self._operator.check(event)
        version = event.data.version
        found = await self._reports.passing(event.pipeline, version)
        if found is None:
            raise Poison("not_validated", f"{event.pipeline}/{version} has no passing report: it cannot be promoted")
        report, ref = found
        attestation = await self._attestation(event.pipeline, version)
        await self._packages.verified(event.pipeline, version, report.package, attestation)
        reason = f"approved by {event.data.by}" + (f": {event.data.note}" if event.data.note else "")
        return await self._registry.promote(event, Choice(version, report.package, attestation, ref, reason))

    async def on_rollback_requested(self, event: RollbackRequested) -> ModelPromoted | None:
        """Append the older champion that was asked for, or the one before the present one."""
        self._operator.check(event)
        done = await self._registry.caused_by(event)
        if done:
            return announced(event, done)
        history = await self._registry.history(event.pipeline)
        present = history[-1].version if history else None
        wanted = event.data.version or next((p.version for p in reversed(history) if p.version != present), None)
        if wanted is not None and wanted == present:
            return None
        target = next((p for p in reversed(history) if p.version == wanted), None)
        if target is None:
            which = f"{wanted} was never champion" if wanted else "there is no earlier champion"
            raise Poison("no_such_champion", f"{event.pipeline}: {which}, so there is nothing to roll back to")
        await self._packages.verified(event.pipeline, target.version, target.manifest, target.attestation)
        reason = f"rollback by {event.data.by}" + (f": {event.data.reason}" if event.data.reason else "")
        choice = Choice(target.version, target.manifest, target.attestation, target.report, reason, "rollback")
        return await self._registry.promote(event, choice)

    async def _attestation(self, pipeline: str, version: str) -> ArtifactRef:
        key = package_key(pipeline, version, "manifest.dsse.json")
        signed = await self._store.read(key)
        if signed is None:
            raise Poison("missing", f"{key} has vanished")
        return reference(key, signed)  # its signature is what counts, and is verified next

    async def _policies(self, package: PackageManifest) -> PipelineSpec:
        """Today's policies, if they are about the same question; else those the model was made for."""
        own = await self._store.document(package.spec, PipelineSpec)
        today = await self._pipelines.spec(package.pipeline)
        return today if today and (today.task, today.target) == (own.task, own.target) else own

    async def _champion(self, package: PackageManifest, spec: PipelineSpec) -> Champion | None:
        promotion = await self._registry.champion(package.pipeline)
        return await self._packages.champion(promotion, package, spec.target) if promotion else None

    async def _job(self, package: PackageManifest, spec: PipelineSpec, champion: Champion | None) -> Job:
        dataset = await self._store.document(package.dataset, DatasetManifest)
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
            test=await self._test(dataset, since),
            from_ordinal=dataset.from_ordinal,
            since=since,
            newest_rows=policy.newest_rows,
            min_rows=self._settings.min_rows,
            goals={str(k): v for k, v in policy.goals.items()},
            confidence=policy.confidence,
            margin=policy.margin,
            max_latency_ms=policy.max_latency_ms,
            max_batch_latency_ms=policy.max_batch_latency_ms,
            resamples=self._settings.resamples,
            seed=model.seed,
        )

    async def _test(self, dataset: DatasetManifest, since: datetime | None) -> tuple[Path, ...]:
        """Verified local copies of the test parts that can hold rows since then, oldest first."""
        parts = [p for p in dataset.parts if p.split == "test" and p.last_ordinal >= dataset.from_ordinal]
        parts = [p for p in parts if since is None or (p.time_max is not None and p.time_max >= since)]
        return tuple([await self._store.cached(p.file) for p in sorted(parts, key=lambda part: part.first_ordinal)])

    async def _judged(self, job: Job, champion: Champion | None) -> Judged:
        try:
            judged = await self.child.run(judge, job, timeout_seconds=self._settings.limit_seconds)
        except TimeoutError:
            return unanswered("too_slow", f"not judged within {self._settings.limit_seconds:.0f} s")
        if champion and champion.why:
            judged = judged.with_check(Checked("champion", passed=True, message=champion.why))
        return judged


def _validated(event: ModelPackaged, report: ValidationReport, ref: ArtifactRef, approval: str) -> ModelValidated:
    facts = {
        "pipeline": report.pipeline,
        "version": report.version,
        "manifest": event.data.manifest,
        "report": ref,
        "metrics": report.metrics,
        "approval": approval,
    }
    return ModelValidated.caused_by(event, ValidatedModel.model_validate(facts), subject=event.subject)


def _rejected(event: ModelPackaged, report: ValidationReport, ref: ArtifactRef) -> ModelRejected:
    data = RejectedModel(
        pipeline=report.pipeline,
        version=report.version,
        manifest=event.data.manifest,
        report=ref,
        reasons=report.reasons,
    )
    return ModelRejected.caused_by(event, data, subject=event.subject)
