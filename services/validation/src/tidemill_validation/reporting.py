"""Reports: a judgement as a document in the store, named by its own digest."""

import hashlib
from typing import Any

from tidemill_contracts.artifacts import ArtifactRef, report_key
from tidemill_contracts.dataset import Reason
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import ModelRejected, ModelValidated
from tidemill_contracts.names import EventId, Version
from tidemill_contracts.package import PackageManifest
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import Check, Comparison, RejectedModel, ValidatedModel, ValidationReport
from tidemill_shared.store import Store, reference
from tidemill_validation.job import Compared, Job, Judged

FIRST = "the first model that passed"
_HELD = {"worse_than_anchor"}
"""The reason that a person's word removes: the golden set may be of a world that is no more."""


class Reports:
    """Writes reports and finds them again."""

    def __init__(self, store: Store, code_version: str) -> None:
        self._store = store
        self._code_version = code_version

    async def write(
        self,
        cause: EventId,
        manifest: ArtifactRef,
        package: PackageManifest,
        job: Job,
        judged: Judged,
        comparison: Comparison | None,
        against: Version | None,
    ) -> tuple[ValidationReport, ArtifactRef]:
        """Store the report on a package; ``against`` is the champion of the time."""
        report = ValidationReport(
            pipeline=package.pipeline,
            version=package.version,
            package=manifest,
            dataset=package.dataset,
            passed=judged.passed,
            promote=judged.promote,
            rows=judged.rows,
            metrics=judged.metrics,
            checks=tuple(
                Check(name=c.name, passed=c.passed, message=c.message, value=c.value, bound=c.bound)
                for c in judged.checks
            ),
            comparison=comparison,
            against=against,
            reasons=tuple(Reason(code=c.code, message=c.message[:1000]) for c in judged.checks if not c.passed),
            causes=(cause,),
            seed=job.seed,
            code_version=self._code_version,
        )
        digest = hashlib.sha256(report.to_json()).hexdigest()
        return report, await self._store.put_document(report_key(package.pipeline, package.version, digest), report)

    async def passing(
        self, pipeline: str, version: Version, against: Version | None
    ) -> tuple[ValidationReport, ArtifactRef] | None:
        """A report that lets this version be promoted, if there is one before the champion ``against``; one whose
        content is not what its name says does not count."""
        found = None
        for key in await self._store.list(f"reports/{pipeline}/{version}/"):
            data = await self._store.read(key)
            if data is None or key != report_key(pipeline, version, hashlib.sha256(data).hexdigest()):
                continue
            report = ValidationReport.from_json(data)
            if not (report.promote or held(report)) or (report.pipeline, report.version) != (pipeline, version):
                continue
            if found is None or report.against == against:
                found = report, reference(key, data)
        return found


def comparison(compared: Compared | None, champion: Version | None, spec: PipelineSpec, job: Job) -> Comparison | None:
    """The comparison as a document."""
    if compared is None or champion is None:
        return None
    return Comparison(
        champion=champion,
        rows=compared.rows,
        metric="cost" if job.costs else spec.primary,
        champion_score=compared.champion,
        challenger_score=compared.challenger,
        difference=compared.difference,
        low=compared.low,
        high=compared.high,
        confidence=job.confidence,
        resamples=job.resamples,
    )


def held(report: ValidationReport) -> bool:
    """Whether only the golden set speaks against it: a person may promote it."""
    return report.passed and {r.code for r in report.reasons} == _HELD


def gain(report: ValidationReport) -> str:
    """Why the model of a passing report takes its place."""
    return next((c.message for c in report.checks if c.name == "better"), FIRST)


def validated(event: Event[Any], report: ValidationReport, ref: ArtifactRef, approval: str) -> ModelValidated:
    """The event of a passing report."""
    facts = {
        "pipeline": report.pipeline,
        "version": report.version,
        "manifest": report.package,
        "report": ref,
        "metrics": report.metrics,
        "approval": approval,
    }
    data = ValidatedModel.model_validate(facts)
    return ModelValidated.caused_by(event, data, subject=f"{report.pipeline}/{report.version}")


def rejected(event: Event[Any], report: ValidationReport, ref: ArtifactRef) -> ModelRejected:
    """The event of a report that does not pass."""
    data = RejectedModel(
        pipeline=report.pipeline,
        version=report.version,
        manifest=report.package,
        report=ref,
        reasons=report.reasons,
    )
    return ModelRejected.caused_by(event, data, subject=f"{report.pipeline}/{report.version}")
