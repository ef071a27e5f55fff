"""What the judge does with each event."""

import hashlib
from typing import Any

from tidemill_contracts.artifacts import ArtifactRef, report_key
from tidemill_contracts.dataset import DatasetManifest, Reason
from tidemill_contracts.events import (
    ModelApproved,
    ModelPackaged,
    ModelPromoted,
    ModelRejected,
    ModelValidated,
    RollbackRequested,
)
from tidemill_contracts.model import ModelManifest
from tidemill_contracts.package import Attestation, PackageManifest, Signature
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import (
    Check,
    Comparison,
    RejectedModel,
    ValidatedModel,
    ValidationReport,
)
from tidemill_shared.child import Child
from tidemill_shared.errors import Poison
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_shared.signing import Verifier
from tidemill_shared.store import reference
from tidemill_shared.telemetry import counter
from tidemill_validation.job import Candidate, Job, Judged
from tidemill_validation.promoting import Registry
from tidemill_validation.settings import ValidationGroup
from tidemill_validation.work import PRELOAD, judge

log = logger(__name__)


class Judge:
    """Judges packages, promotes, rolls back."""

    def __init__(self, service: Service, verifier: Verifier, settings: ValidationGroup, code_version: str) -> None:
        self._store = service.store
        self._pipelines = service.pipelines
        self._verifier = verifier
        self._settings = settings
        self._code_version = code_version
        self._registry = Registry(service)
        self.child = Child(PRELOAD, service="validation")

    async def on_model_packaged(self, event: ModelPackaged) -> list[ModelValidated | ModelPromoted] | ModelRejected:
        """Verify, judge, report, and promote what has proven better."""
        package = await self._verified(event.data.manifest, event.data.attestation)
        spec = await self._current(package)
        judged, champion = await self._judge(package, spec)
        report = self._report(event, package, spec, judged, champion)
        digest = hashlib.sha256(report.to_json()).hexdigest()
        ref = await self._store.put_document(report_key(package.pipeline, package.version, digest), report)
        outcome = "promoted" if judged.promote else "rejected"
        counter("tidemill.validation.judgements").add(1, {"pipeline": package.pipeline, "outcome": outcome})
        if not judged.promote:
            log.info("model rejected", pipeline=package.pipeline, version=package.version)
            rejected = RejectedModel(
                pipeline=package.pipeline,
                version=package.version,
                manifest=event.data.manifest,
                report=ref,
                reasons=report.reasons,
            )
            return ModelRejected.caused_by(event, rejected, subject=event.subject)
        approval = spec.promotion.approval
        validated = ValidatedModel(
            pipeline=package.pipeline,
            version=package.version,
            manifest=event.data.manifest,
            report=ref,
            metrics=judged.metrics,
            approval=approval,
        )
        events: list[ModelValidated | ModelPromoted] = [
            ModelValidated.caused_by(event, validated, subject=event.subject)
        ]
        if approval == "automatic":
            better = next(
                (c.message for c in judged.checks if c.name == "better"), "the first model that met its goals"
            )
            promoted = await self._registry.promote(
                event,
                package.pipeline,
                package.version,
                manifest=event.data.manifest,
                attestation=event.data.attestation,
                report=ref,
                reason=better,
            )
            events += [promoted] if promoted else []
        return events

    async def on_model_approved(self, event: ModelApproved) -> ModelPromoted | None:
        """A person approved: promote the version if a passing report for it exists."""
        version = event.data.version
        prefix = f"reports/{event.pipeline}/{version}/"
        for key in reversed(await self._store.list(prefix)):
            data = await self._store.read(key)
            report = ValidationReport.from_json(data) if data else None
            if report and report.promote and data:
                manifest = report.package
                attestation_key = manifest.key.replace("manifest.json", "manifest.dsse.json")
                signed = await self._store.read(attestation_key)
                if signed is None:
                    raise Poison("missing", f"{attestation_key} has vanished")
                attestation = reference(attestation_key, signed)
                await self._verified(manifest, attestation)
                return await self._registry.promote(
                    event,
                    event.pipeline,
                    version,
                    manifest=manifest,
                    attestation=attestation,
                    report=reference(key, data),
                    reason=f"approved by {event.data.by}: {event.data.note}",
                )
        raise Poison("not_validated", f"{event.pipeline}/{version} has no passing report: it cannot be approved")

    async def on_rollback_requested(self, event: RollbackRequested) -> ModelPromoted | None:
        """Append the older model that was asked for, or the champion before the present one."""
        history = await self._registry.history(event.pipeline)
        done = [p for p in history if p.cause == event.id]
        present = done[-1].previous if done else history[-1].version if history else None
        earlier = [p for p in history if p.version != present and p.cause != event.id]
        wanted = event.data.version or (earlier[-1].version if earlier else None)
        target = next((p for p in reversed(earlier) if p.version == wanted), None)
        if target is None:
            raise Poison("no_such_champion", f"{event.pipeline}: {wanted or 'no model'} was never champion before")
        await self._verified(target.manifest, target.attestation)
        return await self._registry.promote(
            event,
            event.pipeline,
            target.version,
            manifest=target.manifest,
            attestation=target.attestation,
            report=target.report,
            reason=f"rollback by {event.data.by}: {event.data.reason}",
            kind="rollback",
        )

    async def _verified(self, manifest: ArtifactRef, attestation: ArtifactRef) -> PackageManifest:
        signed = await self._store.document(attestation, Attestation)
        self._verifier.verify(signed, manifest.key, manifest.sha256)
        return await self._store.document(manifest, PackageManifest)

    async def _current(self, package: PackageManifest) -> PipelineSpec:
        """Policies of promotion are today's; what the model was made for is in its own specification."""
        spec = await self._pipelines.spec(package.pipeline)
        return spec or await self._store.document(package.spec, PipelineSpec)

    async def _judge(self, package: PackageManifest, spec: PipelineSpec) -> tuple[Judged, str | None]:
        dataset = await self._store.document(package.dataset, DatasetManifest)
        model = await self._store.document(package.model, ModelManifest)
        since = model.selection.since
        parts = [p for p in dataset.parts if p.split == "test" and p.last_ordinal >= dataset.from_ordinal]
        parts = [p for p in parts if since is None or (p.time_max is not None and p.time_max >= since)]
        champion = await self._registry.champion(package.pipeline)
        if champion and champion.version == package.version:
            champion = None  # judged before: the registry knows it already
        policy = spec.promotion
        job = Job(
            challenger=await self._candidate(package),
            champion=await self._candidate(await self._verified(champion.manifest, champion.attestation))
            if champion
            else None,
            task=package.task,
            target=spec.target,
            classes=dataset.classes,
            metric=spec.primary,
            test=tuple([await self._store.cached(p.file) for p in parts]),
            from_ordinal=dataset.from_ordinal,
            since=since,
            goals={str(k): v for k, v in policy.goals.items()},
            confidence=policy.confidence,
            margin=policy.margin,
            newest_rows=policy.newest_rows,
            max_rows=self._settings.max_rows,
            min_rows=self._settings.min_rows,
            max_latency_ms=policy.max_latency_ms,
            max_batch_latency_ms=policy.max_batch_latency_ms,
            resamples=self._settings.resamples,
            seed=model.seed,
        )
        judged = await self.child.run(judge, job, timeout_seconds=self._settings.limit_seconds)
        return judged, champion.version if champion else None

    async def _candidate(self, package: PackageManifest) -> Candidate:
        signature = await self._store.document(package.files["signature.json"], Signature)
        return Candidate(
            onnx=await self._store.get(package.files["model.onnx"]),
            numeric=signature.numeric,
            categorical=signature.categorical,
            positive=signature.positive,
            threshold=signature.threshold,
        )

    def _report(
        self, event: ModelPackaged, package: PackageManifest, spec: PipelineSpec, judged: Judged, champion: str | None
    ) -> ValidationReport:
        compared: Any = None
        if judged.compared is not None and champion:
            c = judged.compared
            compared = Comparison(
                champion=champion,
                rows=c["rows"],
                metric=spec.primary,
                champion_score=c["champion"],
                challenger_score=c["challenger"],
                difference=c["difference"],
                low=c["low"],
                high=c["high"],
                confidence=spec.promotion.confidence,
                resamples=self._settings.resamples,
            )
        failed = [c for c in judged.checks if not c.passed]
        return ValidationReport(
            pipeline=package.pipeline,
            version=package.version,
            package=event.data.manifest,
            dataset=package.dataset,
            passed=judged.passed,
            promote=judged.promote,
            rows=judged.rows,
            metrics=judged.metrics,
            checks=tuple(
                Check(name=c.name, passed=c.passed, message=c.message, value=c.value, bound=c.bound)
                for c in judged.checks
            ),
            comparison=compared,
            reasons=tuple(Reason(code=c.name.replace(":", "_"), message=c.message) for c in failed),
            causes=(event.id,),
            seed=0,
            code_version=self._code_version,
        )
