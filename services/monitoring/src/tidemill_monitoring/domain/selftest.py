"""A detector's own report card: known shifts are put into the reference, and the pipeline's own settings must find
them.

Every trial draws a new training sample of the reference's size and production rows beside it, both from the reference's
bins, so the noise of both is as it is in production.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tidemill_monitoring.domain.adwin import Adwin
from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.concept import ErrorWatch
from tidemill_monitoring.domain.findings import Broken, Detected
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.quality import CHUNK_ROWS, QualityWatch
from tidemill_monitoring.domain.reference import Reference, ReferenceColumn
from tidemill_monitoring.domain.verdict import Standing, test_columns, worst
from tidemill_monitoring.domain.window import Cells, RowWindow

_NAMES = {"half missing": "missing_values", "unit times 1000": "unit_changed", "stuck": "stuck_sensor"}
Spoil = Callable[[Cells, ReferenceColumn, np.random.Generator], Cells]
_MOST_WINDOWS = 10
"""A drift that takes longer is missed."""
_ERROR_ROWS = 2_000
_BREAK_ROWS = 4 * CHUNK_ROWS


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind of change, tried several times. Without a change ``caught`` counts false alarms."""

    watch: Literal["inputs", "errors", "quality"]
    change: str
    column: str
    trials: int
    caught: int
    delay_rows: float | None
    """Median, of those that were caught."""


@dataclass(frozen=True, slots=True)
class Card:
    """The report card."""

    windows: int
    """Quiet windows."""
    beyond: int
    """Of them, with any test beyond chance; asked for is ``rate``."""
    drifts: int
    """Of them, with the verdict ``drift``."""
    rate: float
    trials: tuple[Trial, ...]


def grade(reference: Reference, policy: Policy, error: float, *, trials: int = 20, seed: int = 0) -> Card:
    """Try the pipeline's settings; ``error`` is the model's mean error on held-out rows."""
    rng = np.random.default_rng(seed)
    rows = max(policy.window_rows, policy.min_rows)
    windows, beyond, drifts = _quiet(reference, policy, rows, rng)
    shifts = [_shift(reference, policy, rows, column, change, trials, rng) for column, change in _shifts(reference)]
    errors = [_errors(policy, error, rise, trials, rng) for rise in (0.0, 0.05, 0.1, 0.2)]
    breaks = [_break(reference, column, change, trials, rng) for column, change in _breaks(reference)]
    return Card(windows, beyond, drifts, policy.false_alarm_rate, (*shifts, *errors, *breaks))


def _quiet(reference: Reference, policy: Policy, rows: int, rng: np.random.Generator) -> tuple[int, int, int]:
    windows = beyond = drifts = 0
    for number in range(10):
        drawn, calibration, standing = _drawn(reference, number, rng), Calibration(), Standing()
        for _ in range(20):
            verdict, found = _judge(drawn, _window(drawn, reference, rows, rng), policy, calibration, standing)
            windows, beyond, drifts = windows + 1, beyond + found, drifts + (verdict == "drift")
    return windows, beyond, drifts


def _shifts(reference: Reference) -> Iterator[tuple[ReferenceColumn, str]]:
    """The changes of the most important numeric and categorical column."""
    for kind, changes in (
        ("numeric", ("mean + 0.25 sd", "mean + 0.5 sd", "mean + 1 sd", "spread times 2")),
        ("categorical", ("a fifth becomes the rarest", "5 % never seen")),
    ):
        column = _most_important(reference, kind)
        if column:
            yield from ((column, change) for change in changes)


def _breaks(reference: Reference) -> Iterator[tuple[ReferenceColumn, str]]:
    column = _most_important(reference, "numeric")
    for change in ("none", "half missing", "unit times 1000", "stuck") if column else ():
        assert column is not None  # noqa: S101 - the condition above
        yield column, change


def _most_important(reference: Reference, kind: str) -> ReferenceColumn | None:
    columns = [c for c in reference.columns if c.kind == kind and len(c.counts) > 1]
    return max(columns, key=lambda c: c.importance or 0.0, default=None)


def _shift(
    reference: Reference,
    policy: Policy,
    rows: int,
    column: ReferenceColumn,
    change: str,
    trials: int,
    rng: np.random.Generator,
) -> Trial:
    delays = []
    for number in range(trials):
        drawn, calibration, standing = _drawn(reference, 1_000 + number, rng), Calibration(), Standing()
        for window in range(1, _MOST_WINDOWS + 1):
            shifted = _window(drawn, reference, rows, rng, column.name, _CHANGES[change])
            if _judge(drawn, shifted, policy, calibration, standing)[0] == "drift":
                delays.append(window * rows)
                break
    return _trial("inputs", change, column.name, trials, delays)


def _judge(
    reference: Reference, window: RowWindow, policy: Policy, calibration: Calibration, standing: Standing
) -> tuple[str, bool]:
    rate, rows = policy.false_alarm_rate, policy.min_rows
    tests = test_columns(reference, window, rate=rate, min_rows=rows, calibration=calibration)
    verdict, _ = standing.take(worst(tests, window.rows, rows), policy.consecutive, policy.among)
    return verdict, any(test.verdict in ("warning", "drift") for test in tests)


def _errors(policy: Policy, error: float, rise: float, trials: int, rng: np.random.Generator) -> Trial:
    """An error rate that rises after twice the rows that are then watched."""
    delays = []
    before, after = min(error, 0.95), min(error + rise, 1.0)
    for _ in range(trials):
        watch = ErrorWatch(Adwin(policy.error_delta), policy.window_rows)
        for row in range(1, 3 * _ERROR_ROWS + 1):
            changed = row > 2 * _ERROR_ROWS
            wrong = float(rng.random() < (after if changed else before))
            found = watch.take(wrong, row=row, time=float(row), newest=float(row), version="")
            if isinstance(found, Detected) and (changed or not rise):
                delays.append(row - 2 * _ERROR_ROWS if rise else row)
                break
    change = f"error {before:.2f} to {after:.2f}" if rise else f"none in {3 * _ERROR_ROWS} rows"
    return _trial("errors", change, "error", trials, delays)


def _break(reference: Reference, column: ReferenceColumn, change: str, trials: int, rng: np.random.Generator) -> Trial:
    delays = []
    expected = _NAMES.get(change)
    for _ in range(trials):
        watch, rows = QualityWatch.over(reference), 0
        while rows < 2 * _BREAK_ROWS:
            spoil = _CHANGES[change] if rows >= _BREAK_ROWS else _same
            cells = [_spoilt(c, CHUNK_ROWS, rng, spoil if c is column else _same) for c in reference.columns]
            found = watch.take(reference, cells, CHUNK_ROWS, rows + 1, 0.0, "")
            rows += CHUNK_ROWS
            named = [f.symptom for f in found if isinstance(f, Broken)]
            if any(expected in (None, s.kind) for s in named):
                delays.append(max(0, rows - _BREAK_ROWS))
                break
    return _trial("quality", change if expected else f"none in {2 * _BREAK_ROWS} rows", column.name, trials, delays)


def _trial(watch: Any, change: str, column: str, trials: int, delays: Sequence[int]) -> Trial:
    delay = float(statistics.median(delays)) if delays and not change.startswith("none") else None
    return Trial(watch, change, column, trials, len(delays), delay)


def _drawn(reference: Reference, number: int, rng: np.random.Generator) -> Reference:
    """The reference another training sample would have given."""
    columns = tuple(_redrawn(column, rng) for column in reference.columns)
    return replace(reference, digest=f"{reference.digest}:{number}", columns=columns)


def _redrawn(column: ReferenceColumn, rng: np.random.Generator) -> ReferenceColumn:
    if not column.present:
        return column
    missing = int(rng.binomial(column.rows, column.missing / column.rows))
    counts = rng.multinomial(max(column.rows - missing, 1), column.counts / column.present)
    return replace(column, missing=missing, counts=counts.astype(np.float64))


def _window(
    drawn: Reference,
    truth: Reference,
    rows: int,
    rng: np.random.Generator,
    shifted: str = "",
    spoil: Spoil | None = None,
) -> RowWindow:
    """Rows drawn from ``truth``, counted against ``drawn``."""
    window = RowWindow.empty(drawn)
    for counts, column, source in zip(window.columns, drawn.columns, truth.columns, strict=True):
        counts.count(column, _spoilt(source, rows, rng, spoil if spoil and source.name == shifted else _same))
    window.rows = rows
    return window


def _spoilt(column: ReferenceColumn, rows: int, rng: np.random.Generator, spoil: Spoil) -> Cells:
    """Cells of a column drawn from its bins, changed by ``spoil``."""
    share = column.missing / column.rows if column.rows else 1.0
    if not column.present:
        return np.full(rows, np.nan) if column.kind == "numeric" else [""] * rows
    places = rng.choice(len(column.counts), rows, p=column.counts / column.present)
    gaps = rng.random(rows) < share
    if column.kind == "categorical":
        names = list(column.categories)
        drawn: list[Any] = ["" if gap else names[place] for place, gap in zip(places, gaps, strict=True)]
        return spoil(drawn, column, rng)
    edges = column.edges if len(column.edges) else np.zeros(1)
    low = edges[0] if column.minimum is None else column.minimum
    high = edges[-1] if column.maximum is None else column.maximum
    limits = np.concatenate([[min(low, edges[0])], column.edges, [max(high, edges[-1])]])
    values = rng.uniform(limits[places], limits[places + 1])
    return spoil(np.where(gaps, np.nan, values), column, rng)


def _same(cells: Cells, _: ReferenceColumn, __: np.random.Generator) -> Cells:
    return cells


def _sd(column: ReferenceColumn) -> float:
    return column.std or float(np.ptp(column.edges)) / 2 or 1.0


def _rarest(cells: Any, column: ReferenceColumn, rng: np.random.Generator) -> Cells:
    name = list(column.categories)[int(np.argmin(column.counts))]
    return [name if rng.random() < 0.2 else cell for cell in cells]


def _unknown(cells: Any, _: ReferenceColumn, rng: np.random.Generator) -> Cells:
    return ["never seen" if rng.random() < 0.05 else cell for cell in cells]


_CHANGES: dict[str, Spoil] = {
    "none": _same,
    "mean + 0.25 sd": lambda cells, column, _: np.asarray(cells) + 0.25 * _sd(column),
    "mean + 0.5 sd": lambda cells, column, _: np.asarray(cells) + 0.5 * _sd(column),
    "mean + 1 sd": lambda cells, column, _: np.asarray(cells) + _sd(column),
    "spread times 2": lambda cells, *_: 2 * np.asarray(cells) - np.nanmean(np.asarray(cells)),
    "a fifth becomes the rarest": _rarest,
    "5 % never seen": _unknown,
    "half missing": lambda cells, _, rng: np.where(rng.random(CHUNK_ROWS) < 0.5, np.nan, np.asarray(cells)),
    "unit times 1000": lambda cells, *_: 1_000 * np.asarray(cells),
    "stuck": lambda cells, column, _: np.full(CHUNK_ROWS, float(column.edges[0])),
}
