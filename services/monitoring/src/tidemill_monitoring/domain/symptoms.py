"""What a few cells of a column tell: broken, and how. The rules are coarse: what is subtle is drift's business."""

import math
from dataclasses import dataclass
from typing import Literal

from tidemill_monitoring.domain.proportion import increase_p_value
from tidemill_monitoring.domain.reference import ReferenceColumn
from tidemill_monitoring.domain.vitals import Vitals

BreakKind = Literal[
    "missing_values",
    "unit_changed",
    "stuck_sensor",
    "unknown_values",
    "missing_column",
    "renamed_column",
    "wrong_type",
    "wrong_labels",
]
LEAST_ROWS = 20
"""Fewer cells are no evidence."""
_CHANCE = 1e-6
_MISSING_RISE = 0.3
_UNSEEN_RISE = 0.5
_LEAST_FACTOR = 0.7
"""In powers of ten: about 5 times as large or as small."""
_LONGEST_RUN = 30


@dataclass(frozen=True, slots=True)
class Symptom:
    """A column is broken in this way, by these cells."""

    kind: BreakKind
    column: str
    share: float
    rows: int
    message: str
    factor: float | None = None
    instead: str | None = None


def worth_a_look(column: ReferenceColumn, v: Vitals) -> bool:
    """Whether any rule may speak: most cells are told to be sound by this alone."""
    if v.missing >= _MISSING_RISE * v.rows or v.unseen >= _UNSEEN_RISE * v.rows or v.longest >= _LONGEST_RUN:
        return True
    return bool(v.sizes and column.magnitude is not None and abs(v.logs / v.sizes - column.magnitude) >= _LEAST_FACTOR)


def symptoms(column: ReferenceColumn, vitals: Vitals) -> list[Symptom]:
    """Everything that is wrong with the cells."""
    found = [_missing(column, vitals)]
    if column.kind == "numeric":
        found += [_unit(column, vitals), _stuck(column, vitals)]
    else:
        found.append(_unknown(column, vitals))
    return [symptom for symptom in found if symptom]


def _missing(column: ReferenceColumn, v: Vitals) -> Symptom | None:
    if not _risen(column.missing, column.rows, v.missing, v.rows, _MISSING_RISE):
        return None
    before = column.missing / column.rows
    message = f"{v.missing} of {v.rows} cells of {column.name!r} are missing, {before:.1%} in training"
    return Symptom("missing_values", column.name, v.missing / v.rows, v.rows, message)


def _unknown(column: ReferenceColumn, v: Vitals) -> Symptom | None:
    if not _risen(column.unlisted, column.rows, v.unseen, v.rows, _UNSEEN_RISE):
        return None
    message = f"{v.unseen} of {v.rows} cells of {column.name!r} hold categories that training never saw"
    return Symptom("unknown_values", column.name, v.unseen / v.rows, v.rows, message)


def _risen(before: int, before_rows: int, now: int, rows: int, rise: float) -> bool:
    if rows < LEAST_ROWS or not before_rows or now / rows - before / before_rows < rise:
        return False
    return increase_p_value(before, before_rows, now, rows) < _CHANCE


def _unit(column: ReferenceColumn, v: Vitals) -> Symptom | None:
    """All values are as many times as large: their logarithms have moved and are spread as before.

    A shift of the mean leaves the spread of the values, and so changes that of their logarithms.
    """
    if v.sizes < LEAST_ROWS or column.magnitude is None:
        return None
    moved = v.logs / v.sizes - column.magnitude
    spread = math.sqrt(max(v.squares / v.sizes - (v.logs / v.sizes) ** 2, 0.0))
    surprise = abs(moved) / max(column.spread, 0.05) * math.sqrt(v.sizes)
    alike = 0.4 * column.spread - 0.05 <= spread <= 2.5 * column.spread + 0.05
    if abs(moved) < _LEAST_FACTOR or surprise < 8 or not alike:
        return None
    # A power of ten that is as near as a few rows can tell is more likely than any other factor.
    factor = 10.0 ** round(moved) if abs(moved - round(moved)) < 0.15 else float(f"{10**moved:.2g}")
    message = f"{column.name!r} is about {factor:g} times as large as in training, and spread alike: another unit?"
    return Symptom("unit_changed", column.name, v.sizes / v.rows, v.rows, message, factor=factor)


def _stuck(column: ReferenceColumn, v: Vitals) -> Symptom | None:
    """One number over and over: far longer than in training, and than chance has it even for its fullest bin."""
    if column.longest_run is None or not column.present:
        return None
    fullest = float(column.counts.max()) / column.present
    by_chance = math.log(1e-9) / math.log(fullest) if 0 < fullest < 1 else math.inf
    if v.longest < max(_LONGEST_RUN, by_chance, 3 * column.longest_run):
        return None
    message = f"{column.name!r} was the same number {v.longest} times in a row, {column.longest_run} times in training"
    return Symptom("stuck_sensor", column.name, 1.0, v.longest, message)
