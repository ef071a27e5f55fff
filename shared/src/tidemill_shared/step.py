"""The words of one completion step as ``complete.lua`` reads them: keys by position, like entries in columns."""

from collections.abc import Sequence
from typing import Any

from tidemill_shared.outbox import Write

Row = tuple[str, str, str, Sequence[tuple[str, bytes]]]
"""A stream, the id of an entry in it, an id to be answered once ("" for none), and each output's stream and body."""


class Step:
    """Gathers what a step needs: first whatever ``position`` gives a number, then ``words`` puts all in its place."""

    def __init__(self) -> None:
        self._keys: dict[str, int] = {}

    @property
    def keys(self) -> list[str]:
        """The keys, by position."""
        return list(self._keys)

    def position(self, key: str) -> int:
        """A key's number, from 1."""
        return self._keys.setdefault(key, len(self._keys) + 1)

    def words(self, rows: Sequence[Row], writes: Sequence[Write]) -> list[Any]:
        """The arguments from the number of streams on. Outputs are written in the order of the rows that have like
        outputs, and acknowledged with them."""
        by_stream: dict[str, list[Row]] = {}
        for row in rows:
            if row[0] in by_stream:
                by_stream[row[0]].append(row)
            else:
                by_stream[row[0]] = [row]
        found: list[Any] = [len(by_stream)]
        groups: list[Any] = []
        count = 0
        for stream, its_rows in by_stream.items():
            found += (self.position(stream), its_rows[0][1], its_rows[-1][1], len(its_rows))
            for (once, *outputs), like in _alike(its_rows).items():
                groups += (self.position(stream), len(like), int(once), len(outputs), *map(self.position, outputs))
                groups += [row[1] for row in like]
                if once:
                    groups += [row[2] for row in like]
                for i in range(len(outputs)):
                    groups += [row[3][i][1] for row in like]
                count += 1
        found += (count, *groups, len(writes))
        for command, key, *rest in writes:
            found += (len(rest) + 1, command, self.position(str(key)), *rest)
        return found


def _alike(rows: Sequence[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by whether they are to be answered once, and by the streams of their outputs."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        outputs = row[3]
        if len(outputs) == 1:  # as in most, and cheaper than the general form
            kind: tuple[Any, ...] = (row[2] != "", outputs[0][0])
        else:
            kind = (row[2] != "", *[stream for stream, _ in outputs])
        if kind in found:
            found[kind].append(row)
        else:
            found[kind] = [row]
    return found
