"""What the judge does with each event."""

import time
from typing import Any

from tidemill_contracts.artifacts import ArtifactRef, package_key
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import (
    ModelAnchored,
    ModelApproved,
    ModelPackaged,
    ModelPromoted,
    ModelRejected,
    ModelValidated,
    RollbackRequested,
    RolloutChanged,
)
from tidemill_contracts.package import PackageManifest
from tidemill_contracts.promotion import Promotion, ValidationReport
from tidemill_contracts.rollout import Trial
from tidemill_shared.child import Bounds, Child
from tidemill_shared.errors import Poison
from tidemill_shared.log import logger
from tidemill_shared.seal import OperatorCheck, PromotionSeal
from tidemill_shared.service import Service
from tidemill_shared.signing import Verifier
from tidemill_shared.store import reference
from tidemill_shared.telemetry import counter, histogram
from tidemill_validation.anchoring import Anchoring
from tidemill_validation.baking import Baking
from tidemill_validation.conducting import Conducting
from tidemill_validation.job import Checked
from tidemill_validation.jobs import Jobs
from tidemill_validation.observations import Observations
from tidemill_validation.owed import Owed
from tidemill_validation.packages import Packages
from tidemill_validation.promoting import Choice, Registry, announced
from tidemill_validation.reporting import Reports, comparison, gain, held, rejected, validated
from tidemill_validation.settings import ValidationGroup
from tidemill_validation.steering import Steering
from tidemill_validation.steps import Steps
from tidemill_validation.trials import Trials, changed
from tidemill_validation.waiting import Waiting
from tidemill_validation.work import PRELOAD

log = logger(__name__)
_Placed = ModelPromoted | RolloutChanged | ModelAnchored


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
        self._packages = Packages(service.store, verifier)
        self._reports = Reports(service.store, code_version)
        self._registry = Registry(service, seal)
        self.child = Child(PRELOAD, service="validation", bounds=Bounds.of_machine())
        self.anchoring = Anchoring(
            service, seal, operator, self._registry, self._packages, self.child, settings.min_rows
        )
        self._jobs = Jobs(service, self._packages, self.anchoring, self.child, settings)
        self._waiting = Waiting(service)
        self._operator = operator
        trials, observations = Trials(service, seal), Observations(service.bus)
        self._owed = Owed(service, self._registry, self.anchoring)
        steps = Steps(service, self._registry, trials, observations, self._owed)
        self.conducting = Conducting(service, self._registry, self._packages, trials, observations, steps)
        self.steering = Steering(operator, service.pipelines, self._registry, trials, observations, steps)
        self.baking = Baking(
            service,
            self._registry,
            self._packages,
            self.anchoring,
            self._owed,
            self._jobs,
            self._reports,
            self._waiting,
            self.conducting,
        )

    async def on_model_packaged(self, event: ModelPackaged) -> list[ModelValidated | _Placed] | ModelRejected:
        """Verify, judge, report, and promote what has proven better, or begin to roll it out."""
        done = await self._done(event)
        if done:  # a crash came between the registry and the events
            entry, told = done
            report = await self._store.document(entry.report, ValidationReport)
            return [validated(event, report, entry.report, "automatic"), *told]
        started = time.monotonic()
        data = event.data
        package = await self._packages.verified(event.pipeline, data.version, data.manifest, data.attestation)
        promotion = await self._registry.champion(event.pipeline)
        report, ref = await self._judged(event, data.manifest, package, promotion)
        outcome = "rejected" if not report.promote else "validated"
        counter("tidemill.validation.judgements").add(1, {"pipeline": event.pipeline, "outcome": outcome})
        histogram("tidemill.validation.duration").record(time.monotonic() - started, {"pipeline": event.pipeline})
        log.info("judged", pipeline=event.pipeline, version=data.version, outcome=outcome, rows=report.rows)
        if not report.promote:
            await self._waiting.note(report, data.attestation)
            return rejected(event, report, ref)
        spec = await self._jobs.policies(package)
        approval = spec.promotion.approval
        events: list[ModelValidated | _Placed] = [validated(event, report, ref, approval)]
        if approval == "automatic":
            choice = Choice(data.version, data.manifest, data.attestation, ref, gain(report))
            placed = await self.conducting.place(event, choice, spec, report.against)
            anchored = await self._owed.by(event) if isinstance(placed, ModelPromoted) else None
            events += [e for e in (placed, anchored) if e]
        return events

    async def _done(self, event: Event[Any]) -> tuple[Promotion | Trial, list[_Placed]] | None:
        """The entry that this event has led to, when it was handled before, and the events to tell it by."""
        promotion = await self._registry.caused_by(event)
        if promotion:
            anchored = await self._owed.of(event, promotion, again=True)
            return promotion, [announced(event, promotion), *([anchored] if anchored else [])]
        trial = await self.conducting.begun(event)
        return (trial, [changed(event, trial)]) if trial else None

    async def _withdrawn(self, pipeline: str) -> set[str]:
        """Models that proved bad as champion or while they were tried, and are not promoted again."""
        return await self._registry.withdrawn(pipeline) | await self.conducting.refused(pipeline)

    async def _judged(
        self, event: Event[Any], manifest: ArtifactRef, package: PackageManifest, promotion: Promotion | None
    ) -> tuple[ValidationReport, ArtifactRef]:
        spec = await self._jobs.policies(package)
        champion = await self._jobs.champion(promotion, package, spec)
        job = await self._jobs.job(package, spec, champion)
        judged = await self._jobs.judged(job, champion)
        if package.version in await self._withdrawn(event.pipeline):
            why = "it was champion or tried beside one, and proved worse"
            judged = judged.refused(Checked("withdrawn", passed=False, message=why, code="withdrawn"))
        compared = comparison(judged.compared, champion.version if champion else None, spec, job)
        against = champion.version if champion else None
        return await self._reports.write(event.id, manifest, package, job, judged, compared, against)

    async def on_model_approved(self, event: ModelApproved) -> list[_Placed] | ModelRejected | None:
        """A person approved: promote the version, or begin to roll it out, if a report lets it pass before the present
        champion. A report against another one proves nothing about this one, so the model is judged again. One that
        only the golden set held back is the new anchor once it is champion."""
        self._operator.check(event)
        pipeline, version = event.pipeline, event.data.version
        done = await self._done(event)
        if done:
            return done[1]
        champion = await self._registry.champion(pipeline)
        against = champion.version if champion else None
        found = await self._reports.passing(pipeline, version, against)
        if found is None:
            raise Poison("not_validated", f"{pipeline}/{version} has no passing report: it cannot be promoted")
        if version in await self._withdrawn(pipeline):
            raise Poison("withdrawn", f"{pipeline}/{version} was withdrawn; a rollback may name it if it was champion")
        report, ref = found
        attestation = await self._attestation(pipeline, version)
        package = await self._packages.verified(pipeline, version, report.package, attestation)
        if report.against != against and against != version:
            log.info("judged again: the champion has changed", pipeline=pipeline, version=version, champion=against)
            report, ref = await self._judged(event, report.package, package, champion)
            if not (report.promote or held(report)):
                return rejected(event, report, ref)
        reason = f"approved by {event.data.by}" + (f": {event.data.note}" if event.data.note else "")
        choice = Choice(version, report.package, attestation, ref, reason)
        placed = await self.conducting.place(event, choice, await self._jobs.policies(package), against)
        anchored = await self._owed.by(event) if isinstance(placed, ModelPromoted) else None
        return [e for e in (placed, anchored) if e]

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
