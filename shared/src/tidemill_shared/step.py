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
        entries: dict[str, list[str]] = {}
        alike: dict[tuple[Any, ...], list[list[Any]]] = {}
        for stream, entry, once, outputs in rows:
            if stream in entries:
                entries[stream].append(entry)
            else:
                entries[stream] = [entry]
            single = len(outputs) == 1  # as in most, and cheaper than the general form
            kind = (stream, once != "", outputs[0][0]) if single else (stream, once != "", *[to for to, _ in outputs])
            columns = alike.get(kind)
            if columns is None:
                columns = alike[kind] = [[] for _ in range(2 + len(outputs))]
            columns[0].append(entry)
            columns[1].append(once)
            if single:
                columns[2].append(outputs[0][1])
            else:
                for column, (_, body) in zip(columns[2:], outputs, strict=True):
                    column.append(body)
        found: list[Any] = [len(entries)]
        for stream, ids in entries.items():
            found += (self.position(stream), ids[0], ids[-1], len(ids))
        found.append(len(alike))
        for (stream, has_once, *outputs_to), (ids, onces, *bodies) in alike.items():
            found += (self.position(stream), len(ids), int(has_once), len(outputs_to), *map(self.position, outputs_to))
            found += ids
            if has_once:
                found += onces
            for column in bodies:
                found += column
        found.append(len(writes))
        for command, key, *rest in writes:
            found += (len(rest) + 1, command, self.position(str(key)), *rest)
        return found
