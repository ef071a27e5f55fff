"""From one raw file to the parts of a new dataset version, on local disk."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from tidemill_ingestion.domain import parts, profiling, splitting, window
from tidemill_ingestion.domain.cleaning import REASONS, CleanedRows, clean
from tidemill_ingestion.domain.job import Job, Label, Prepared, Refusal, Refused, RefusedFile, Split
from tidemill_ingestion.domain.quarantine import write_quarantine
from tidemill_ingestion.domain.reading import read
from tidemill_ingestion.domain.target import check_variety


def prepare(job: Job, progress: Callable[[Any], None] | None = None) -> Prepared | RefusedFile:
    """Read, check, clean, split, profile. Writes only below ``job.folder``; equal jobs give equal files."""
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        table = read(job.file, job.format, job.folder, gzip_expected=job.gzip_expected, limits=job.limits)
        known, ordinals = parts.known_rows(job.earlier)
        cleaned = clean(table, job, known)
    except Refused as refused:
        return RefusedFile((refused.refusal,))
    quarantine = write_quarantine(table, cleaned.reasons, job.folder / "quarantine.parquet")
    del table
    next_ordinal = job.earlier.next_ordinal + cleaned.accepted.size
    from_ordinal = window.first_live(next_ordinal, job.earlier.from_ordinal, job.policy.window_rows)
    try:
        classes = _check(cleaned, job, live=int(np.count_nonzero(ordinals >= from_ordinal)))
    except Refused as refused:
        return RefusedFile((refused.refusal, *_row_reasons(cleaned)), quarantine)
    accepted = parts.accepted_table(cleaned, job.policy.target, job.earlier.next_ordinal)
    written = parts.write_parts(accepted, _splits(cleaned, job), job.folder)
    written = tuple(part for part in written if part.last_ordinal >= from_ordinal)
    kept = window.live_parts(job.earlier.parts, from_ordinal)
    return Prepared(
        features=cleaned.features.schema,
        classes=classes,
        dropped=cleaned.features.dropped,
        parts=written,
        kept=kept,
        from_ordinal=from_ordinal,
        next_ordinal=next_ordinal,
        rows=window.live_rows([*(job.earlier.parts[k] for k in kept), *written], from_ordinal),
        new_rows=cleaned.accepted.size,
        quarantined=cleaned.refused,
        coerced=dict(cleaned.changes),
        quarantine=quarantine,
        profile=_profile(accepted, cleaned, classes, job, kept, from_ordinal),
        index=parts.write_index(
            np.concatenate([known, cleaned.hashes[cleaned.accepted]]),
            np.concatenate([ordinals, np.arange(job.earlier.next_ordinal, next_ordinal)]),
            from_ordinal,
            job.folder / "index.parquet",
        ),
    )


def _check(cleaned: CleanedRows, job: Job, *, live: int) -> tuple[Label, ...]:
    """The version's classes. Raises Refused: nothing_new, too_few_rows, one_class, missing_class, constant_target."""
    accepted = cleaned.accepted
    if not accepted.size:
        if set(cleaned.refused) == {"duplicate"}:
            message = f"All {cleaned.reasons.size} rows are there already: nothing changes."
        else:
            message = f"None of the {cleaned.reasons.size} rows can be used."
        raise Refused("nothing_new", message, count=cleaned.reasons.size)
    rows = live + accepted.size
    if job.policy.window_rows is not None:
        rows = min(rows, job.policy.window_rows)
    if rows < job.policy.min_rows:
        message = f"The dataset would have {rows} usable rows; the pipeline asks for at least {job.policy.min_rows}."
        raise Refused("too_few_rows", message, count=rows)
    return job.earlier.classes if job.earlier.parts else check_variety(cleaned.target, accepted, job.policy)


def _row_reasons(cleaned: CleanedRows) -> tuple[Refusal, ...]:
    return tuple(
        Refusal(reason, f"{count} rows: {REASONS[reason]}.", count=count) for reason, count in cleaned.refused.items()
    )


def _splits(cleaned: CleanedRows, job: Job) -> dict[Split, splitting.Rows]:
    rows, policy = cleaned.accepted, job.policy
    hashes = cleaned.hashes[rows]
    if policy.time:
        return splitting.by_time(cleaned.times[rows], hashes, train=policy.train, validation=policy.validation)
    return splitting.by_hash(hashes, train=policy.train, validation=policy.validation)


def _profile(
    accepted: pa.Table,
    cleaned: CleanedRows,
    classes: tuple[Label, ...],
    job: Job,
    kept: tuple[int, ...],
    from_ordinal: int,
) -> dict[str, Any]:
    policy, schema = job.policy, cleaned.features.schema
    table = profiling.sample(
        accepted,
        [job.earlier.parts[k] for k in kept],
        [*(f.name for f in schema), policy.target],
        from_ordinal=from_ordinal,
        rows=job.limits.profile_rows,
    )
    return profiling.profile(table, schema, policy.target, policy.task, classes, job.earlier.edges)
