"""Rows that came while the data were broken are not sent back as new data: they are put aside."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from tidemill_monitoring import rows


@dataclass(frozen=True, slots=True)
class Held:
    """Which rows are in doubt, as the monitor wrote it with its last batch (see ``Monitor.held``)."""

    rows: tuple[tuple[int, int], ...] = ()
    rows_from: int | None = None
    certain: int | None = None
    labels: tuple[tuple[int, int], ...] = ()
    labels_from: int | None = None

    @classmethod
    def load(cls, dumped: bytes | None) -> "Held":
        """What the monitor wrote; nothing is in doubt before it has written anything."""
        if dumped is None:
            return cls()
        found = orjson.loads(dumped)
        rows_, labels = ([(first, last) for first, last in found[key]] for key in ("rows", "labels"))
        return cls(tuple(rows_), found["rows_from"], found["certain"], tuple(labels), found["labels_from"])

    def ready(self, items: Sequence[bytes], *, before: float) -> int:
        """How many items from the first on are certain: their row was judged, or they wait since ``before``."""
        if self.certain is None:
            return len(items)
        for count, item in enumerate(items):
            if rows.numbers_of(item)[0] > self.certain and rows.waiting_since(item) > before:
                return count
        return len(items)

    def split(self, items: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
        """The items to send back, and those to put aside."""
        sound: list[bytes] = []
        doubtful: list[bytes] = []
        for item in items:
            (doubtful if self.doubts(*rows.numbers_of(item)) else sound).append(item)
        return sound, doubtful

    def doubts(self, answered: int, labelled: int) -> bool:
        """Whether the row with these numbers is in doubt."""
        return _within(answered, self.rows, self.rows_from) or _within(labelled, self.labels, self.labels_from)


def _within(number: int, spans: Sequence[tuple[int, int]], open_from: int | None) -> bool:
    if number >= (math.inf if open_from is None else open_from):
        return True
    return any(first <= number <= last for first, last in spans)
