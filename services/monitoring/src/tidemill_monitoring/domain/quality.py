"""Broken data, which are not drift: recognised within a few dozen rows, named, kept from judgement and training."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tidemill_monitoring.domain.counting import by_value
from tidemill_monitoring.domain.findings import Broken, Finding, Mended
from tidemill_monitoring.domain.reference import Reference, ReferenceColumn
from tidemill_monitoring.domain.refusals import Refusals, RefusedRow
from tidemill_monitoring.domain.symptoms import Symptom, symptoms, worth_a_look
from tidemill_monitoring.domain.vitals import NumericVitals, Vitals, tally
from tidemill_monitoring.domain.window import Cells

CHUNK_ROWS = 32
"""Rows between two looks."""
_SPANS = 64
"""Of rows in doubt that are remembered."""
_EARLY_ROWS = 8


@dataclass(slots=True)
class Break:
    """A break that stands."""

    kind: Any
    column: str
    first: int
    refused: bool = False
    """Told from refused requests: ``first`` counts those, and no answered row is in doubt."""


@dataclass(slots=True)
class QualityWatch:
    """What the latest rows of the champion look like, and which rows are in doubt.

    The chunk before the first that showed a break and the one after the last are in doubt too: they may hold too few
    broken cells to be seen.
    """

    numbers: NumericVitals = field(default_factory=lambda: NumericVitals.over(0))
    categories: list[list[int]] = field(default_factory=list)
    """Missing and unseen cells of each categorical column."""
    rows: int = 0
    """Rows of the open chunk."""
    first: int = 0
    before: int = 0
    """Numbers of the first rows of the open chunk and of the one before."""
    standing: dict[str, Break] = field(default_factory=dict)
    spans: list[tuple[int, int]] = field(default_factory=list)
    """First and last row of each span in doubt."""
    refusals: Refusals = field(default_factory=Refusals)
    refused: int = 0

    @classmethod
    def over(cls, reference: Reference | None, spans: Sequence[tuple[int, int]] = ()) -> "QualityWatch":
        """A fresh watch for a new champion; ``spans`` are what is known of earlier rows."""
        columns = reference.columns if reference else ()
        numeric = sum(c.kind == "numeric" for c in columns)
        return cls(NumericVitals.over(numeric), [[0, 0] for _ in range(len(columns) - numeric)], spans=list(spans))

    @property
    def room(self) -> int:
        """Rows that still fit into the open chunk."""
        return CHUNK_ROWS - self.rows

    @property
    def certain(self) -> int:
        """Rows up to this number will not come into doubt any more."""
        return self.before - 1

    def doubtful(self, number: int) -> bool:
        """Whether an answered row is in doubt."""
        if any(b.first <= number for b in self.standing.values() if not b.refused):
            return True
        return any(first <= number <= last for first, last in reversed(self.spans))

    def suspect(self, reference: Reference, since: int) -> bool:
        """Whether rows from ``since`` on are in doubt, or the open chunk already looks as if it were broken."""
        if any(last >= since for _, last in self.spans) or any(not b.refused for b in self.standing.values()):
            return True
        return any(
            v.missing >= _EARLY_ROWS and v.missing >= 0.5 * v.rows > column.missing / max(column.rows, 1) * 2 * v.rows
            for column, v in self._vitals(reference)
        )

    def _vitals(self, reference: Reference) -> Iterator[tuple[ReferenceColumn, Vitals]]:
        numbers = categories = 0
        for column in reference.columns:
            if column.kind == "numeric":
                yield column, self.numbers.of(numbers, self.rows)
                numbers += 1
            else:
                yield column, Vitals(self.rows, *self.categories[categories])
                categories += 1

    @property
    def broken(self) -> set[str]:
        """Columns that are broken now."""
        return {b.column for b in self.standing.values() if not b.refused}

    def take(
        self, reference: Reference, cells: Sequence[Cells], rows: int, first: int, at: float, version: str
    ) -> list[Finding]:
        """Take at most ``room`` rows, cells by column, the first with number ``first``; ``at`` is their event time."""
        if not self.rows:
            self.first = first
        if not self.before:
            self.before = first
        numbers = [values for values in cells if isinstance(values, np.ndarray)]
        if numbers:
            self.numbers.add(np.stack(numbers, axis=1))
        named = [c for c in reference.columns if c.kind == "categorical"]
        words = [values for values in cells if not isinstance(values, np.ndarray)]
        for column, sums, values in zip(named, self.categories, words, strict=True):
            missing, unseen = tally(column, by_value(values))
            sums[0], sums[1] = sums[0] + missing, sums[1] + unseen
        self.rows += rows
        self.refusals.rows += rows
        if self.rows < CHUNK_ROWS:
            return []
        found = [s for c, v in self._vitals(reference) if worth_a_look(c, v) for s in symptoms(c, v)]
        said = self._compare(found, first + rows - 1, at, version, refused=False)
        self.before, self.first, self.rows = self.first, first + rows, 0
        self.numbers.empty()
        self.categories = [[0, 0] for _ in self.categories]
        return [*said, *self._settle_refusals(at, version)]

    def refuse(
        self, rows: Sequence[RefusedRow], known: frozenset[str], at: float, version: str | None
    ) -> list[Finding]:
        """Take refused requests; ``known`` are the columns of the reference."""
        for row in rows:
            self.refused += 1
            self.refusals.add(row, known)
        return self._settle_refusals(at, version)

    def _settle_refusals(self, at: float, version: str | None) -> list[Finding]:
        if self.refusals.rows < CHUNK_ROWS:
            return []
        said = self._compare(self.refusals.symptoms(), self.refused, at, version, refused=True)
        self.refusals = Refusals()
        return said

    def _compare(
        self, found: Sequence[Symptom], number: int, at: float, version: str | None, *, refused: bool
    ) -> list[Finding]:
        """What is new and what is over, against what stands."""
        now = {f"{s.kind}:{s.column}:{refused}": s for s in found}
        said: list[Finding] = []
        for key, symptom in now.items():
            if key not in self.standing:
                first = max(1, self.refused - self.refusals.rows + 1) if refused else self.before
                self.standing[key] = Break(symptom.kind, symptom.column, first, refused)
                said.append(Broken(symptom, version, first, number, at))
        over = [k for k, b in self.standing.items() if b.refused == refused and k not in now]
        return said + [self._end(key, number, "healthy") for key in over]

    def _end(self, key: str, last: int, reason: Any) -> Mended:
        ended = self.standing.pop(key)
        if not ended.refused:
            self.spans = [*self.spans, (ended.first, last)][-_SPANS:]
        return Mended(ended.kind, ended.column, ended.first, max(last, ended.first), reason)

    def leave(self, last: int) -> list[Finding]:
        """The end of every break that stands, because another model takes over after row ``last``."""
        return [self._end(key, last, "new_model") for key in list(self.standing)]

    def dump(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "vitals": [self.numbers.dump(), self.categories],
            "place": [self.rows, self.first, self.before],
            "standing": {key: asdict(b) for key, b in self.standing.items()},
            "spans": self.spans,
            "refusals": [self.refusals.rows, dict(self.refusals.by), dict(self.refusals.strangers)],
            "refused": self.refused,
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> "QualityWatch":
        """What ``dump`` gave, back."""
        rows, by, strangers = dumped["refusals"]
        return cls(
            NumericVitals.load(dumped["vitals"][0]),
            dumped["vitals"][1],
            rows=dumped["place"][0],
            first=dumped["place"][1],
            before=dumped["place"][2],
            standing={key: Break(**b) for key, b in dumped["standing"].items()},
            spans=[(first, last) for first, last in dumped["spans"]],
            refusals=Refusals(rows, Counter(by), Counter(strangers)),
            refused=dumped["refused"],
        )
