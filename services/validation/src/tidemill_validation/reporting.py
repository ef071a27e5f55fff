"""Reports: a judgement as a document in the store, named by its own digest."""

import hashlib

from tidemill_contracts.artifacts import ArtifactRef, report_key
from tidemill_contracts.dataset import Reason
from tidemill_contracts.events import ModelPackaged
from tidemill_contracts.names import Version
from tidemill_contracts.package import PackageManifest
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import Check, Comparison, ValidationReport
from tidemill_shared.store import Store, reference
from tidemill_validation.job import Compared, Job, Judged


class Reports:
    """Writes reports and finds them again."""

    def __init__(self, store: Store, code_version: str) -> None:
        self._store = store
        self._code_version = code_version

    async def write(
        self, event: ModelPackaged, package: PackageManifest, job: Job, judged: Judged, comparison: Comparison | None
    ) -> tuple[ValidationReport, ArtifactRef]:
        """Store the report on a package."""
        report = ValidationReport(
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
            comparison=comparison,
            reasons=tuple(Reason(code=c.code, message=c.message[:1000]) for c in judged.checks if not c.passed),
            causes=(event.id,),
            seed=job.seed,
            code_version=self._code_version,
        )
        digest = hashlib.sha256(report.to_json()).hexdigest()
        return report, await self._store.put_document(report_key(package.pipeline, package.version, digest), report)

    async def passing(self, pipeline: str, version: Version) -> tuple[ValidationReport, ArtifactRef] | None:
        """A report that lets this version be promoted; one whose content is not what its name says does not count."""
        for key in await self._store.list(f"reports/{pipeline}/{version}/"):
            data = await self._store.read(key)
            if data is None or key != report_key(pipeline, version, hashlib.sha256(data).hexdigest()):
                continue
            report = ValidationReport.from_json(data)
            if report.promote and (report.pipeline, report.version) == (pipeline, version):
                return report, reference(key, data)
        return None


def comparison(compared: Compared | None, champion: Version | None, spec: PipelineSpec, job: Job) -> Comparison | None:
    """The comparison as a document."""
    if compared is None or champion is None:
        return None
    return Comparison(
        champion=champion,
        rows=compared.rows,
        metric=spec.primary,
        champion_score=compared.champion,
        challenger_score=compared.challenger,
        difference=compared.difference,
        low=compared.low,
        high=compared.high,
        confidence=job.confidence,
        resamples=job.resamples,
    )
