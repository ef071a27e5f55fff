"""What a step leads to in another hash slot of a cluster, where no script reaches: kept beside the step, then sent on.

The step adds foreign commands to a stream in its own slot, atomically with everything else. Whoever sends them on
carries them out by one guarded step in their slot, which remembers the last of them; so each is carried out once and in
order, whatever crashes between.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import hiredis

from tidemill_contracts.envelope import FIELD
from tidemill_shared.errors import StaleState
from tidemill_shared.nodes import Nodes, tag_of

Write = tuple[str | bytes | int | float, ...]
"""A Redis command: its name, its key, further words."""
Commit = Callable[[Sequence[Write], tuple[str, bytes | None]], Awaitable[None]]
"""Writes in one step, guarded by a key and the value it must still have. Raises StaleState."""
_PAGE = 500


class Outbox:
    """Of one consumer group, one stream in each slot that leads to others. On one Redis nothing ever lies in it."""

    def __init__(self, nodes: Nodes, group: str, commit: Commit) -> None:
        self._nodes = nodes
        self._group = group
        self._commit = commit

    def key(self, tag: str) -> str:
        """The stream of a hash tag; each entry is a command as Redis's protocol spells it."""
        return f"{tag}:{self._group}:outbox"

    def foreign(self, home: str, key: str) -> bool:
        """Whether a step at ``home`` cannot write to ``key``."""
        return self._nodes.cluster and self._nodes.slot(home) != self._nodes.slot(key)

    def output(self, home: str, stream: str, body: bytes) -> tuple[str, bytes]:
        """The same output, or where it waits to be sent on."""
        if not self.foreign(home, stream):
            return stream, body
        return self.key(tag_of(home)), _packed(("XADD", stream, "*", FIELD, body))

    def write(self, home: str, write: Write) -> Write:
        """The same write, or the one that lets it wait."""
        if not self.foreign(home, str(write[1])):
            return write
        return "XADD", self.key(tag_of(home)), "*", FIELD, _packed(write)

    async def send_on(self, home: str) -> None:
        """Carry out what waits in the slot of ``home``. Any replica may, at any time. Raises redis errors."""
        outbox = self.key(tag_of(home))
        redis = self._nodes.of(outbox)
        while True:
            entries: Any = await redis.xrange(outbox, count=_PAGE)
            if not entries:
                return
            waiting: dict[str, list[tuple[bytes, Write]]] = defaultdict(list)
            for entry, fields in entries:
                command = _unpacked(fields[FIELD.encode()])
                waiting[tag_of(str(command[1]))].append((entry, command))
            try:
                for tag, commands in waiting.items():
                    await self._carry_out(outbox, tag, commands)
            except StaleState:
                continue  # another replica was quicker: look again
            await redis.xdel(outbox, *[entry for entry, _ in entries])

    async def _carry_out(self, outbox: str, tag: str, commands: list[tuple[bytes, Write]]) -> None:
        mark = f"{tag}:{self._group}:sent:{outbox}"
        last: Any = await self._nodes.of(mark).get(mark)
        left = [(entry, command) for entry, command in commands if last is None or _number(entry) > _number(last)]
        if left:
            await self._commit([*(command for _, command in left), ("SET", mark, left[-1][0])], (mark, last))


def _packed(command: Write) -> bytes:
    return bytes(hiredis.pack_command(command))  # type: ignore[arg-type]


def _unpacked(command: bytes) -> Write:
    reader = hiredis.Reader()
    reader.feed(command)
    name, key, *words = reader.gets()
    return name.decode(), key.decode(), *words


def _number(entry: bytes) -> tuple[int, int]:
    milliseconds, _, count = entry.partition(b"-")
    return int(milliseconds), int(count)
