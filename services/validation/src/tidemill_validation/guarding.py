"""The challenger before the anchor, on the golden set. Imported in child processes only."""

import contextlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tidemill_validation.comparing import difference, opened, positive
from tidemill_validation.domain import golden, rows
from tidemill_validation.domain.answers import Answers, aligned
from tidemill_validation.domain.bootstrap import Difference
from tidemill_validation.domain.gate import Finding
from tidemill_validation.job import UNBOUND, Candidate, Guard, Job

_SEED = 0
"""The same for every model: the same answers to the same rows are the same verdict, whoever asks."""


def guard(job: Job) -> Finding | None:
    """None where nothing is anchored. A set that cannot be read, or that the anchor cannot answer, protects nobody, as
    a champion that cannot; a challenger that cannot answer it has forgotten what was right."""
    if job.guard is None:
        return None
    try:
        table = pq.read_table(job.guard.golden)
        y = rows.targets(table, job.target, job.classes)
        rows.layout(table, job.challenger.numeric, job.challenger.categorical)  # columns of today, of another kind then
        anchor = golden.Sample(y, _answers(job, job.guard.anchor, table))
    except Exception as error:
        why = f"the golden set cannot be answered, so it does not bind: {type(error).__name__}: {error}"
        return Finding(golden.ANCHOR, True, why[:900], code=UNBOUND)
    try:
        of_challenger = difference(job, y, anchor.answers, _answers(job, job.challenger, table), _SEED)
    except Exception as error:
        why = f"it does not answer the {len(table)} golden rows: {type(error).__name__}: {error}"
        return Finding(golden.ANCHOR, False, why[:900], code=golden.UNANSWERED)
    return _guard(job, job.guard, table, anchor, of_challenger)


def _guard(job: Job, guard: Guard, table: pa.Table, anchor: golden.Sample, of_challenger: Difference) -> Finding:
    left = as_before = False
    with contextlib.suppress(Exception):  # a champion that does not answer, whatever the runtime says, shows nothing
        if job.champion:
            champion = golden.Sample(anchor.y, _answers(job, job.champion, table))
            d = difference(job, champion.y, anchor.answers, champion.answers, _SEED)
            left = golden.clearly_worse(d, job.margin)
            as_before = guard.since is not None and _as_before(job, guard, champion)
    changed = guard.since is not None and not as_before
    return golden.finding(len(table), of_challenger, job.margin, left=left, changed=changed)


def _as_before(job: Job, guard: Guard, before: golden.Sample) -> bool:
    assert job.champion is not None  # noqa: S101 - the caller looked
    table = rows.read(guard.recent, job.from_ordinal, guard.since, golden.RECENT)
    if not len(table):
        return False
    y = rows.targets(table, job.target, job.classes)
    now = golden.Sample(y, _answers(job, job.champion, table))
    return golden.as_before(job.metric, positive(job), before, now, guard.share, _SEED)


def _answers(job: Job, candidate: Candidate, table: pa.Table) -> Answers:
    package = opened(job, candidate)
    answers = package.answer(*rows.layout(table, package.numeric, package.categorical))
    answers = aligned(answers, candidate.classes, job.classes)
    if not np.isfinite(answers.numbers).all():
        raise ValueError("a model answers with no finite number")
    return answers
