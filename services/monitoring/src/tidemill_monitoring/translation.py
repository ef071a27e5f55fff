"""Findings become events, specifications become policies."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from tidemill_contracts.drift import (
    BrokenData,
    DegradedPerformance,
    DetectedDrift,
    EstimatedPerformance,
    EvaluatedDrift,
    MeasuredPerformance,
    MendedData,
    RecoveredPerformance,
    ResolvedDrift,
    Statistic,
    Window,
)
from tidemill_contracts.envelope import Event, content_id
from tidemill_contracts.events import (
    DataBroken,
    DataMended,
    DriftDetected,
    DriftEvaluated,
    DriftResolved,
    PerformanceDegraded,
    PerformanceMeasured,
    PerformanceRecovered,
)
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_monitoring.domain.findings import (
    Broken,
    Degraded,
    Detected,
    Estimate,
    Evaluated,
    Finding,
    Measured,
    Mended,
    Recovered,
    Resolved,
    Span,
)
from tidemill_monitoring.domain.measuring import Test
from tidemill_monitoring.domain.policy import Policy


def policy_of(spec: PipelineSpec) -> Policy:
    """How the pipeline wants to be judged."""
    drift = spec.drift
    return Policy(
        spec.task == "classification",
        spec.primary,
        spec.positive,
        drift.window_rows,
        drift.min_rows,
        drift.false_alarm_rate,
        drift.consecutive,
        drift.error_delta,
        drift.recovered_share,
        drift.among,
        drift.window_seconds,
        drift.lateness_seconds,
        drift.references,
        drift.season_seconds,
        drift.label_seconds,
    )


def event_of(finding: Finding, cause: Event[Any], metric: str, stage: str) -> Event[Any]:
    """The event that tells of a finding. Its id follows from the cause and from what was found at which stage."""
    event = _event(finding, cause, metric)
    return event.model_copy(update={"id": content_id(cause.id, event.type, event.subject, _which(finding), stage)})


def _which(finding: Finding) -> str:
    """What tells apart findings of one type that one event may lead to."""
    if isinstance(finding, Evaluated):
        return f"{finding.kind} {finding.reference} {finding.span.first}"
    if isinstance(finding, Detected | Resolved):
        return finding.kind
    if isinstance(finding, Broken):
        return f"{finding.symptom.kind} {finding.symptom.column} {finding.first}"
    if isinstance(finding, Mended):
        return f"{finding.kind} {finding.column} {finding.first}"
    return finding.place if isinstance(finding, Measured) else "performance"


def _event(finding: Finding, cause: Event[Any], metric: str) -> Event[Any]:
    if isinstance(finding, Broken):
        return DataBroken.caused_by(cause, _broken(finding), subject=cause.pipeline)
    if isinstance(finding, Mended):
        mended = MendedData.model_validate(asdict(finding))
        return DataMended.caused_by(cause, mended, subject=cause.pipeline)
    subject = f"{cause.pipeline}/{finding.version}"
    if isinstance(finding, Measured):
        return PerformanceMeasured.caused_by(cause, _measured(finding, metric), subject=subject)
    if isinstance(finding, Evaluated):
        return DriftEvaluated.caused_by(cause, _evaluated(finding, metric), subject=subject)
    if isinstance(finding, Detected):
        return DriftDetected.caused_by(cause, _detected(finding), subject=subject)
    if isinstance(finding, Resolved):
        resolved = ResolvedDrift(
            kind=finding.kind, model_version=finding.version, window=_window(finding.span), reason=finding.reason
        )
        return DriftResolved.caused_by(cause, resolved, subject=subject)
    if isinstance(finding, Degraded):
        return PerformanceDegraded.caused_by(cause, _degraded(finding, metric), subject=subject)
    return PerformanceRecovered.caused_by(cause, _recovered(finding, metric), subject=subject)


def _evaluated(finding: Evaluated, metric: str) -> EvaluatedDrift:
    return EvaluatedDrift(
        kind=finding.kind,
        model_version=finding.version,
        verdict=finding.verdict,
        window=_window(finding.span),
        statistics=tuple(_statistic(test) for test in finding.tests),
        correction=finding.correction,
        score=finding.score,
        reference=finding.reference,
        estimated=_estimated(finding.estimated, metric),
    )


def _estimated(estimate: Estimate | None, metric: str) -> EstimatedPerformance | None:
    return EstimatedPerformance(metric=metric, **asdict(estimate)) if estimate else None


def _broken(finding: Broken) -> BrokenData:
    symptom = finding.symptom
    return BrokenData(
        kind=symptom.kind,
        column=symptom.column,
        model_version=finding.version,
        first=finding.first,
        noticed_row=finding.noticed_row,
        noticed_at=moment(finding.noticed_at),
        share=symptom.share,
        rows=symptom.rows,
        factor=symptom.factor,
        instead=symptom.instead,
        message=symptom.message[:1000],
    )


def _measured(finding: Measured, metric: str) -> MeasuredPerformance:
    return MeasuredPerformance(
        model_version=finding.version,
        metric=metric,
        score=finding.score,
        standard_error=finding.error,
        window=_window(finding.span),
        labelled=finding.labelled,
        coverage=finding.labelled / finding.span.rows,
        corrected=finding.corrected,
        complete=finding.complete,
        estimated=_estimated(finding.estimated, metric),
    )


def _detected(finding: Detected) -> DetectedDrift:
    return DetectedDrift(
        kind=finding.kind,
        model_version=finding.version,
        noticed_at=moment(finding.noticed_at),
        noticed_row=finding.noticed_row,
        began_at=None if finding.began_at is None else moment(finding.began_at),
        began_row=finding.began_row,
        window=_window(finding.span),
        evidence=tuple(_statistic(test) for test in finding.evidence),
        features=finding.features,
        course=finding.course,
    )


def _degraded(finding: Degraded, metric: str) -> DegradedPerformance:
    return DegradedPerformance(
        model_version=finding.version,
        metric=metric,
        score=finding.score,
        baseline=finding.baseline,
        window=_window(finding.span),
        noticed_at=moment(finding.noticed_at),
        noticed_row=finding.noticed_row,
    )


def _recovered(finding: Recovered, metric: str) -> RecoveredPerformance:
    return RecoveredPerformance(
        model_version=finding.version,
        metric=metric,
        score=finding.score,
        baseline=finding.baseline,
        rows_to_detect=finding.rows_to_detect,
        rows_to_retrain=finding.rows_to_retrain,
        rows_to_recover=finding.rows_to_recover,
        seconds=finding.seconds,
    )


def _statistic(test: Test) -> Statistic:
    return Statistic(
        name=test.name,
        test=test.test,
        statistic=test.statistic,
        threshold=test.threshold,
        p_value=test.p_value,
        effect=test.effect,
        reference_rows=test.reference_rows,
        current_rows=test.current_rows,
        verdict=test.verdict,
        severity=test.severity,
    )


def _window(span: Span) -> Window:
    if not span.rows:
        return Window(rows=0)
    return Window(
        rows=span.rows,
        start=moment(span.start),
        end=moment(span.end),
        first=span.first,
        last=span.last,
        late=span.late,
    )


def moment(seconds: float) -> datetime:
    """Seconds since the epoch as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
