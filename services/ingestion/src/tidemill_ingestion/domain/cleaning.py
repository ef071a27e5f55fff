"""Which rows of a file are used: every other row gets one reason."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidemill_ingestion.domain import identity
from tidemill_ingestion.domain.coercion import Mask, flat, is_usable, texts
from tidemill_ingestion.domain.csv_file import UNNAMED
from tidemill_ingestion.domain.job import PREDICTION, RESERVED, TIME, Job
from tidemill_ingestion.domain.schema import (
    Features,
    fixed_features,
    inferred_features,
    require,
    without_empty,
)
from tidemill_ingestion.domain.target import Target, classification_target, regression_target
from tidemill_ingestion.domain.timestamps import MISSING, micros, timestamps

REASONS = {
    "no_key": "a cell of the row's identity is empty",
    "no_target": "the target is empty",
    "bad_target": "the target cannot be read as a value of its type",
    "unknown_class": "the target is a class that the dataset does not have",
    "not_finite": "a number is infinite, NaN or out of range",
    "bad_time": "the time is empty or not ISO 8601",
    "duplicate": "the row is there already",
}
"""Why a row is set aside, in order of precedence: a row gets the first that applies."""


@dataclass(frozen=True)
class CleanedRows:
    """A file's rows, coerced. ``reasons`` holds a position in ``REASONS`` or -1 where a row is accepted."""

    features: Features
    target: Target
    hashes: identity.Hashes
    times: npt.NDArray[np.int64]
    reasons: npt.NDArray[np.int8]
    changes: Counter[str]

    @property
    def accepted(self) -> npt.NDArray[np.int64]:
        """Positions of the rows to use, in file order."""
        return np.flatnonzero(self.reasons < 0)

    @property
    def refused(self) -> dict[str, int]:
        """Counts by reason, without zeros."""
        counts = np.bincount(self.reasons[self.reasons >= 0], minlength=len(REASONS))
        return {reason: int(n) for reason, n in zip(REASONS, counts, strict=True) if n}


def clean(table: pa.Table, job: Job, known: identity.Hashes) -> CleanedRows:
    """Check a file against its pipeline and judge each row. ``known`` are identities of earlier rows.

    Raises Refused: no_target_column, no_time_column, breaking_schema, no_features, too_many_classes.
    """
    policy = job.policy
    _require_columns(table, job)
    features = _features(table, job)
    column = flat(table[policy.target])
    if policy.task == "regression":
        target = regression_target(column)
    else:
        target = classification_target(column, job.earlier.classes, policy)
    times = _times(table, job)
    hashes, unidentified = _identities(table, job, features, times)
    masks: dict[str, Mask] = {
        "no_key": unidentified,
        **target.refused,
        "bad_time": times == MISSING,
    }
    if features.numeric:
        masks["not_finite"] = features.not_finite | target.refused.get("not_finite", np.False_)
    reasons = np.full(table.num_rows, -1, np.int8)
    for position, reason in enumerate(REASONS):
        if reason == "duplicate":
            masks[reason] = identity.repeated(hashes, reasons < 0, known)
        if reason in masks:
            reasons[(reasons < 0) & masks[reason]] = position
    return CleanedRows(features, target, hashes, times, reasons, features.changes)


def _require_columns(table: pa.Table, job: Job) -> None:
    policy, names = job.policy, table.column_names
    named = [f.name for f in job.earlier.features or policy.features or ()]
    known = (*named, policy.target, *policy.exclude, *policy.keys, *([policy.time] if policy.time else []))
    require(policy.target, names, known, code="no_target_column", what="target")
    if policy.time and TIME not in names:
        require(policy.time, names, known, code="no_time_column", what="time")
    if PREDICTION not in names:
        for key in policy.keys:
            require(key, names, known, code="breaking_schema", what="key")


def _features(table: pa.Table, job: Job) -> Features:
    policy = job.policy
    if job.earlier.features:
        return fixed_features(table, job.earlier.features, policy, fill=job.feedback)
    if policy.features is not None:
        first = fixed_features(table, policy.features, policy, fill=False)
    else:
        first = inferred_features(table, policy)
    return without_empty(first, policy.max_missing)


def _times(table: pa.Table, job: Job) -> npt.NDArray[np.int64]:
    for name in (job.policy.time, TIME):
        if name in table.column_names:
            return timestamps(flat(table[name]))
    return np.full(table.num_rows, micros(job.arrived), np.int64)


def _identities(
    table: pa.Table, job: Job, features: Features, times: npt.NDArray[np.int64]
) -> tuple[identity.Hashes, Mask]:
    """Hashes of the prediction id where rows carry one, else of the keys, else of all cells; and who lacks one."""
    names = [PREDICTION] if PREDICTION in table.column_names else list(job.policy.keys)
    if names:
        cells = {name: identity.text_cells(texts(flat(table[name])).values) for name in names}
        empty = np.any([column == 0 for column in cells.values()], axis=0)
        return identity.row_hashes(cells, table.num_rows), empty
    cells = {name: identity.number_cells(column.values) for name, column in features.numeric.items()}
    cells |= {name: identity.text_cells(column) for name, column in features.categorical.items()}
    for name in table.column_names:
        if name in cells or name.startswith((RESERVED, UNNAMED)):
            continue
        if name == job.policy.time:
            cells[name] = identity.integer_cells(times)
        elif is_usable(table[name].type):
            cells[name] = identity.text_cells(texts(flat(table[name])).values)
    return identity.row_hashes(cells, table.num_rows), np.zeros(table.num_rows, bool)
