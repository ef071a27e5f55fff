"""A judgement: the domain's functions in their order. Imported in child processes only."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill_validation.comparing import difference, opened, positive
from tidemill_validation.domain import gate, golden, rows, scores, slices
from tidemill_validation.domain.answers import Answers, aligned
from tidemill_validation.domain.invariants import invariants
from tidemill_validation.domain.latency import latency
from tidemill_validation.guarding import guard
from tidemill_validation.job import Checked, Compared, Job, Judged, unanswered

Array = NDArray[Any]


def judge(job: Job) -> Judged:
    """Every check on the newest rows that training never read; with a champion, the comparison on the same rows."""
    table = rows.read(job.test, job.from_ordinal, job.since, job.newest_rows)
    findings = [gate.enough(len(table), job.min_rows)]
    if not findings[0].passed:
        return _judged(job, len(table), {}, findings, None)
    y = rows.targets(table, job.target, job.classes)
    try:
        package = opened(job, job.challenger)
        numbers, strings = rows.layout(table, package.numeric, package.categorical)
        answers = package.answer(numbers, strings)
    except Exception as error:  # whatever the runtime says of these bytes, they cannot answer
        return unanswered("no_answers", f"the package cannot answer: {type(error).__name__}: {error}"[:900])
    findings += invariants(package, answers, numbers, strings)
    findings += latency(package, numbers, strings, job.max_latency_ms, job.max_batch_latency_ms)
    if not np.isfinite(answers.numbers).all():
        return _judged(job, len(table), {}, findings, None)
    answers = aligned(answers, job.challenger.classes, job.classes)
    found = _scores(job, y, answers)
    findings += gate.goals(found, job.goals)
    compared = _compare(job, table, y, answers, findings) if job.champion else None
    guarded = guard(job)
    findings += [guarded] if guarded else []
    return _judged(job, len(table), found, findings, compared)


def _scores(job: Job, y: Array, answers: Answers) -> dict[str, float]:
    metrics = scores.CLASSIFICATION if job.task == "classification" else scores.REGRESSION
    found = {metric: scores.score(metric, y, answers, positive(job)) for metric in metrics}
    return {metric: value for metric, value in found.items() if math.isfinite(value)}


def _compare(job: Job, table: pa.Table, y: Array, new: Answers, findings: list[gate.Finding]) -> Compared | None:
    """Adds the finding; a champion that cannot answer these rows protects nobody."""
    assert job.champion is not None  # noqa: S101 - the caller looked
    try:
        champion = opened(job, job.champion)
        old = champion.answer(*rows.layout(table, champion.numeric, champion.categorical))
        old = aligned(old, job.champion.classes, job.classes)
        if not np.isfinite(old.numbers).all():
            raise ValueError("it answers with no finite number")
    except Exception as error:
        findings.append(gate.Finding(gate.BETTER, True, f"the champion cannot answer these rows: {error}"[:900]))
        return None
    d = difference(job, y, old, new)
    missed = any(not f.passed for f in gate.goals(_scores(job, y, old), job.goals))
    findings.append(gate.replaces(d, job.margin, champion_misses_goals=missed))
    if job.slices:
        findings.append(_slices(job, table, y, old, new))
    if not math.isfinite(d.difference) or not math.isfinite(d.low):
        return None  # undefined on these rows, as the finding says
    return Compared(len(table), d.champion, d.challenger, d.difference, d.low, d.high)


def _slices(job: Job, table: pa.Table, y: Array, old: Answers, new: Answers) -> gate.Finding:
    numeric = tuple(c for c in job.slices if c in job.challenger.numeric)
    categorical = tuple(c for c in job.slices if c in job.challenger.categorical)
    numbers, strings = rows.layout(table, numeric, categorical)
    columns = dict(zip(numeric, numbers.T, strict=True)) | dict(zip(categorical, strings.T.astype(str), strict=True))
    found = slices.slices(columns, job.slice_rows)
    costs = np.array(job.costs) if job.costs else None
    worst = slices.worst(
        found,
        slices.row_losses(y, old, costs),
        slices.row_losses(y, new, costs),
        job.slice_margin,
        resamples=job.resamples,
        confidence=job.confidence,
        seed=job.seed,
    )
    return gate.slices(worst, len(found))


def _judged(
    job: Job, n: int, found: dict[str, float], findings: list[gate.Finding], compared: Compared | None
) -> Judged:
    checks = tuple(
        Checked(f.name, f.passed, f.message, _finite(f.value), _finite(f.bound), f.code or f.name) for f in findings
    )
    passed = all(f.passed for f in findings if f.name != gate.BETTER and f.code != golden.CODE)
    return Judged(n, found, checks, compared, passed=passed, promote=passed and all(f.passed for f in findings))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
