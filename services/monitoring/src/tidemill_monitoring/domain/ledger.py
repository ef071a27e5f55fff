"""Realized performance window by window: each answered row belongs to one, and its label finds it at any delay.

The score of a window is computed from its rows themselves when all labels are in, or when they are no longer waited
for, so it equals that of an offline join. A label that comes again with a later time of observation replaces the
former.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from tidemill_monitoring.domain.findings import Estimate, Measured, Span
from tidemill_monitoring.domain.outcome import Cell, class_index
from tidemill_monitoring.domain.score import Outcome, score

_MOST = 64
"""Windows that may wait for labels; beyond this the oldest is measured as it is."""


@dataclass(slots=True)
class Entry:
    """A window of one champion's answered rows; ``outcomes`` are kept beside the rest of the state."""

    version: str
    classes: tuple[Cell, ...]
    positive: int
    rows: int = 0
    span: Span | None = None
    """None: the window is still open."""
    closed: float = 0.0
    """Wall time."""
    corrected: int = 0
    estimated: Estimate | None = None
    outcomes: dict[str, tuple[float, Outcome]] = field(default_factory=dict)
    """By prediction id, with the time of the label's observation."""


@dataclass(slots=True)
class Ledger:
    """The windows whose labels are awaited, by place (the number of their first row, or their place in time)."""

    entries: dict[str, Entry] = field(default_factory=dict)
    fresh: dict[str, tuple[float, Outcome]] = field(default_factory=dict)
    """Outcomes not stored yet, by place and id."""
    settled: list[str] = field(default_factory=list)
    """Stored outcomes to forget."""

    def expect(self, place: str, version: str, classes: tuple[Cell, ...], positive: int, rows: int) -> None:
        """Answered rows belong to the window at ``place``."""
        self.entries.setdefault(place, Entry(version, classes, positive)).rows += rows

    def close(self, place: str, span: Span, wall: float, estimated: Estimate | None) -> None:
        """No more rows will come to this window."""
        entry = self.entries.get(place)
        if entry:
            entry.span, entry.closed, entry.estimated = span, wall, estimated

    def label(self, place: str, id_: str, outcome: Outcome, at: float) -> None:
        """The label of a row that belongs to ``place``."""
        entry = self.entries.get(place)
        if entry and id_ not in entry.outcomes:
            self._put(place, id_, outcome, at)

    def correct(self, id_: str, label: Cell, at: float) -> bool:
        """A label for a row that has one: it counts if it was observed later, says otherwise, and its window is not
        measured yet."""
        for place, entry in self.entries.items():
            known = entry.outcomes.get(id_)
            if known is None:
                continue
            truth = float(class_index(entry.classes, label)) if entry.classes else float(label or 0.0)
            if at <= known[0] or truth == known[1].truth:
                return False
            entry.corrected += 1
            self._put(place, id_, Outcome(truth, known[1].predicted, known[1].probabilities), at)
            return True
        return False

    def _put(self, place: str, id_: str, outcome: Outcome, at: float) -> None:
        self.entries[place].outcomes[id_] = self.fresh[f"{place}:{id_}"] = (at, outcome)

    def mature(self, metric: str, wall: float, patience: float, most_rows: float = math.inf) -> list[Measured]:
        """The windows that can be measured now; they are forgotten."""
        found = []
        surplus = max(len(self.entries) - _MOST, self._overfull(most_rows))
        for number, (place, entry) in enumerate(list(self.entries.items())):
            if entry.span is None:
                continue
            complete = len(entry.outcomes) >= entry.rows
            if complete or number < surplus or wall - entry.closed >= patience:
                found.append(self._measure(place, entry, entry.span, metric, complete=complete))
        return found

    def _overfull(self, most_rows: float) -> int:
        """How many of the oldest windows must go for the labelled rows of the others to be ``most_rows`` at most."""
        rows = sum(len(entry.outcomes) for entry in self.entries.values()) - most_rows
        windows = 0
        for entry in self.entries.values():
            if rows <= 0:
                break
            rows, windows = rows - len(entry.outcomes), windows + 1
        return windows

    def _measure(self, place: str, entry: Entry, span: Span, metric: str, *, complete: bool) -> Measured:
        # In the order of ids, so that sums do not depend on the order in which labels came.
        outcomes = [entry.outcomes[id_][1] for id_ in sorted(entry.outcomes)]
        found = score(metric, outcomes, classes=len(entry.classes), positive=entry.positive)
        del self.entries[place]
        keys = [f"{place}:{id_}" for id_ in entry.outcomes]
        for key in keys:
            self.fresh.pop(key, None)
        self.settled += keys
        return Measured(
            entry.version,
            place,
            found.value if found else None,
            found.error if found else None,
            span,
            len(outcomes),
            entry.corrected,
            complete,
            entry.estimated,
        )

    def dump(self) -> dict[str, Any]:
        """Everything but the outcomes, as JSON values."""
        return {place: _dump(entry) for place, entry in self.entries.items()}

    @classmethod
    def load(cls, dumped: dict[str, Any], outcomes: Iterable[tuple[str, float, Outcome]]) -> "Ledger":
        """What ``dump`` gave, back, with the stored outcomes by place and id."""
        ledger = cls({place: _load(entry) for place, entry in dumped.items()})
        for key, at, outcome in outcomes:
            place, id_ = key.split(":", 1)
            if place in ledger.entries:
                ledger.entries[place].outcomes[id_] = (at, outcome)
        return ledger


def _dump(entry: Entry) -> list[Any]:
    span = list(asdict(entry.span).values()) if entry.span else None
    estimated = list(asdict(entry.estimated).values()) if entry.estimated else None
    facts = [entry.version, entry.classes, entry.positive, entry.rows]
    return [*facts, span, entry.closed, entry.corrected, estimated]


def _load(dumped: list[Any]) -> Entry:
    version, classes, positive, rows, span, closed, corrected, estimated = dumped
    place = Span(*span) if span else None
    estimate = Estimate(*estimated) if estimated else None
    return Entry(version, tuple(classes), positive, rows, place, closed, corrected, estimate)
