"""Requests, answers and labels of one prediction find each other, in any order and however often each comes.

A row is open until its features, its answer and its label are in, or its request was refused. What comes for a row
that is done is ignored, so nothing is counted twice; of several labels the one that was observed last counts, and of
those observed at the same time the first.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tidemill_monitoring.domain.outcome import Answer, AnsweredRow, Cell, LabelledRow
from tidemill_monitoring.domain.refusals import RefusedRow


@dataclass(slots=True)
class OpenRow:
    """What is known of a row so far. Times are seconds since the epoch."""

    features: dict[str, Cell] | None = None
    time: float = 0.0
    answer: Answer | None = None
    label: Cell = None
    """None: not observed yet."""
    labelled_at: float = 0.0
    whole: AnsweredRow | None = None
    """The row with its answer; it learns its number and place when the monitor takes it."""

    def dump(self) -> list[Any]:
        """As JSON values."""
        a = self.answer
        answer = [a.prediction, a.probabilities, a.classes, a.version, a.dataset] if a else None
        place = [self.whole.number, self.whole.place] if self.whole else [0, ""]
        return [self.features, self.time, answer, self.label, self.labelled_at, *place]

    @classmethod
    def load(cls, dumped: list[Any], id_: str = "") -> "OpenRow":
        """What ``dump`` gave, back."""
        features, time, answer, label, labelled_at, number, place = dumped
        if answer:
            prediction, probabilities, classes, version, dataset = answer
            answer = Answer(prediction, tuple(probabilities), tuple(classes), version, dataset)
        whole = AnsweredRow(id_, features, time, answer, number, place) if features is not None and answer else None
        return cls(features, time, answer, label, labelled_at, whole)


@dataclass(slots=True)
class Join:
    """One batch against what is stored: ``known`` open rows and ``done`` ids among those the batch names."""

    known: dict[str, OpenRow]
    done: set[str]
    answered: list[AnsweredRow] = field(default_factory=list)
    """Rows whose features and answer came together in this batch, in that order."""
    labelled: list[LabelledRow] = field(default_factory=list)
    """Rows that became complete in this batch, in that order."""
    delays: list[float] = field(default_factory=list)
    """Seconds from each of them to the observation of its label."""
    touched: dict[str, None] = field(default_factory=dict)
    """Rows that changed and are still open."""
    opened: list[str] = field(default_factory=list)
    """Rows seen for the first time."""
    finished: list[str] = field(default_factory=list)
    corrections: list[tuple[str, Cell, float]] = field(default_factory=list)
    """Labels for rows that are done, with the time of their observation."""
    refused: list[RefusedRow] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def request(self, id_: str, features: dict[str, Cell], time: float) -> bool:
        """A prediction was requested. These four return whether the piece led to anything new."""
        row = self._row(id_)
        if row is None or row.features is not None:
            return self._repeated()
        self.counts["requested"] += 1
        row.features, row.time = features, time
        return self._advance(id_, row, answered=True)

    def complete(self, id_: str, answer: Answer) -> bool:
        """A model answered."""
        row = self._row(id_)
        if row is None or row.answer is not None:
            return self._repeated()
        row.answer = answer
        return self._advance(id_, row, answered=True)

    def fail(self, id_: str, error: str = "", column: str | None = None) -> bool:
        """The request was refused, so there is nothing to judge: the row is done."""
        row = self._row(id_)
        if row is None:
            return self._repeated()
        self.refused.append(RefusedRow(error, column, frozenset(row.features or ())))
        self.counts["failed"] += 1
        self._finish(id_)
        return True

    def label(self, id_: str, label: Cell, at: float) -> bool:
        """The truth was observed."""
        row = self._row(id_)
        if row is None:
            self.corrections.append((id_, label, at))
            return self._repeated()
        if row.label is not None and (at <= row.labelled_at or label == row.label):
            return self._repeated()
        if row.label is not None:
            self.counts["corrected"] += 1
        row.label, row.labelled_at = label, at
        return self._advance(id_, row, answered=False)

    def _row(self, id_: str) -> OpenRow | None:
        if id_ in self.done:
            return None
        if id_ not in self.known:
            self.known[id_] = OpenRow()
            self.opened.append(id_)
        row = self.known[id_]
        if row.whole is not None:
            row.whole.id = id_
        return row

    def _repeated(self) -> bool:
        self.counts["repeated"] += 1
        return False

    def _advance(self, id_: str, row: OpenRow, *, answered: bool) -> bool:
        self.touched[id_] = None
        if row.features is None or row.answer is None:
            return True
        if row.whole is None:
            row.whole = AnsweredRow(id_, row.features, row.time, row.answer)
        if answered:
            self.answered.append(row.whole)
        if row.label is not None:
            self.labelled.append(LabelledRow(row.whole, row.label, row.labelled_at))
            self.delays.append(row.labelled_at - row.time)
            self._finish(id_)
        return True

    def _finish(self, id_: str) -> None:
        self.known.pop(id_, None)
        self.touched.pop(id_, None)
        self.done.add(id_)
        self.finished.append(id_)
