"""The body of a judgement, run in a child process. Its imports are inside, so that the parent stays small."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tidemill_validation.job import Candidate, Checked, Job, Judged

PRELOAD = (
    "tidemill_validation.domain.package",
    "tidemill_validation.domain.bootstrap",
    "tidemill_validation.domain.gate",
    "tidemill_validation.domain.rows",
)
_METRICS = {
    "classification": ("accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "brier"),
    "regression": ("mae", "rmse", "r2"),
}


def judge(job: Job, progress: Callable[[Any], None]) -> Judged:
    """Goals, invariants, latency, and the comparison with the champion, on rows training never read."""
    from tidemill_validation.domain import bootstrap, gate, rows, scores
    from tidemill_validation.domain.package import Package

    def opened(candidate: Candidate) -> Package:
        positive = job.classes.index(candidate.positive) if candidate.positive in job.classes else None
        return Package(
            candidate.onnx,
            numeric=candidate.numeric,
            categorical=candidate.categorical,
            classify=job.task == "classification",
            positive=positive,
            threshold=candidate.threshold,
        )

    table = rows.read(job.test, job.from_ordinal, job.since, job.max_rows)
    n = table.num_rows
    enough = f"{n} rows that training never read, at least {job.min_rows} are needed"
    findings = [gate.Finding("rows", n >= job.min_rows, enough, n, job.min_rows)]
    if not findings[0].passed:
        return Judged(n, {}, _checked(findings), None, passed=False, promote=False)
    y = rows.targets(table, job.target, job.classes)
    challenger = opened(job.challenger)
    numbers, strings = rows.layout(table, challenger.numeric, challenger.categorical)
    answers = challenger.answer(numbers, strings)
    positive = job.classes.index(job.challenger.positive) if job.challenger.positive in job.classes else 0
    found = {metric: scores.score(metric, y, answers, positive) for metric in _METRICS[job.task]}
    findings += _invariants(challenger, answers, numbers, strings)
    findings += _latency(challenger, numbers, strings, job)
    findings += gate.goals(found, job.goals)
    compared: dict[str, Any] | None = None
    promote = True
    if job.champion is not None:
        champion = opened(job.champion)
        newest = table.slice(max(0, n - job.newest_rows))
        y_new = y[-newest.num_rows :]
        old = champion.answer(*rows.layout(newest, champion.numeric, champion.categorical))
        new = challenger.answer(*rows.layout(newest, challenger.numeric, challenger.categorical))
        difference = bootstrap.compare(
            job.metric, y_new, old, new, positive, resamples=job.resamples, confidence=job.confidence, seed=job.seed
        )
        kept = {metric: scores.score(metric, y_new, old, positive) for metric in job.goals}
        misses = not all(f.passed for f in gate.goals(kept, job.goals))
        finding = gate.replaces(difference, job.margin, champion_misses_goals=misses)
        findings.append(finding)
        promote = finding.passed
        compared = {"rows": len(y_new)} | asdict(difference)
    passed = all(f.passed for f in findings if f.name != "better")
    finite = {name: value for name, value in found.items() if math.isfinite(value)}
    return Judged(n, finite, _checked(findings), compared, passed=passed, promote=passed and promote)


def _checked(findings: list[Any]) -> tuple[Checked, ...]:
    def clean(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else float(value)

    return tuple(Checked(f.name, f.passed, f.message, clean(f.value), clean(f.bound)) for f in findings)


def _invariants(package: Any, answers: Any, numbers: Any, strings: Any) -> list[Any]:
    import numpy as np

    from tidemill_validation.domain.gate import Finding

    out = answers.probabilities if answers.probabilities is not None else answers.values
    again = package.answer(numbers[:200], strings[:200])
    repeated = again.probabilities if again.probabilities is not None else again.values
    findings = [
        Finding("finite", bool(np.isfinite(out).all()), "every answer is a finite number"),
        Finding("repeatable", bool(np.array_equal(repeated, out[:200])), "the same rows get the same answers"),
    ]
    if answers.probabilities is not None:
        off = float(np.abs(answers.probabilities.sum(axis=1) - 1).max())
        findings.append(Finding("sums_to_one", off < 1e-3, f"probabilities sum to 1 within {off:.1g}", off, 1e-3))
    return findings


def _latency(package: Any, numbers: Any, strings: Any, job: Job) -> list[Any]:
    import numpy as np

    from tidemill_validation.domain.gate import Finding

    def median_ms(rows: int, times: int) -> float:
        index = np.arange(rows) % len(numbers)
        a, b = np.ascontiguousarray(numbers[index]), strings[index]
        taken = []
        for _ in range(times):
            begun = time.perf_counter()
            package.answer(a, b)
            taken.append((time.perf_counter() - begun) * 1000)
        return float(np.median(taken))

    single, batch = median_ms(1, 30), median_ms(1000, 5)
    return [
        Finding(
            "latency", single <= job.max_latency_ms, f"a single row takes {single:.2f} ms", single, job.max_latency_ms
        ),
        Finding(
            "batch_latency",
            batch <= job.max_batch_latency_ms,
            f"1 000 rows take {batch:.1f} ms",
            batch,
            job.max_batch_latency_ms,
        ),
    ]
