"""The histories that services wrote of themselves: which step, of which entry, by which process, when."""

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """A line of a history. ``entry`` is None where an object was stored."""

    at: float
    consumer: str
    pid: int
    step: str
    stream: str | None = None
    entry: str | None = None
    id: str | None = None
    key: str | None = None

    @property
    def came(self) -> float:
        """When the entry came into its stream, by the server's clock."""
        return int((self.entry or "0").partition("-")[0]) / 1000

    @property
    def work(self) -> tuple[str, str, str]:
        """The entry as one group sees it."""
        return self.consumer.partition("-")[0], self.stream or "", self.entry or ""


@dataclass(frozen=True)
class Death:
    """A process that was killed, and what it held."""

    at: float
    consumer: str
    step: str
    resumed: float | None
    """Seconds until each entry it held was taken by another life, None when that never happened. If it held none, how
    long the next entry that its consumer took had waited since the death."""


def read(folder: Path, since: float = 0.0) -> list[Step]:
    """Every service's lines in order of time; a line that a full disk or a kill cut short is left out."""
    steps = []
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(errors="replace").splitlines():
            try:
                step = Step(**json.loads(line))
            except (ValueError, TypeError):
                continue
            if step.at >= since:
                steps.append(step)
    return sorted(steps, key=lambda s: s.at)


def completed_twice(steps: Iterable[Step]) -> list[Step]:
    """Entries whose completion took effect for more than one holder: the fence did not hold."""
    seen: dict[tuple[str, str, str], Step] = {}
    return [s for s in steps if s.step == "complete" and s.entry and seen.setdefault(s.work, s) is not s]


def abandoned(steps: Sequence[Step]) -> list[Step]:
    """Entries that were taken and whose completion nobody began, at the end of it all."""
    done = {s.work for s in steps if s.step in ("completing", "complete") and s.entry}
    taken = {s.work: s for s in steps if s.step == "read"}
    return [step for work, step in taken.items() if work not in done]


def deaths(steps: Sequence[Step], killed: Iterable[int]) -> list[Death]:
    """What became of the work of each killed process; its last line is where it died."""
    lives: dict[int, list[Step]] = defaultdict(list)
    reads = Reads(defaultdict(list), defaultdict(list))
    for step in steps:
        lives[step.pid].append(step)
        if step.step == "read":
            reads.of_work[step.work].append((step.at, step.pid))
            reads.of_consumer[step.consumer].append((step.at, step.came))
    return [_death(lives[pid], reads) for pid in killed if pid in lives]


@dataclass(frozen=True)
class Reads:
    """When which entries were taken, in order of time."""

    of_work: dict[tuple[str, str, str], list[tuple[float, int]]]
    """By whom."""
    of_consumer: dict[str, list[tuple[float, float]]]
    """And when each had come into its stream."""

    def next_life(self, work: tuple[str, str, str], death: Step) -> float | None:
        """When another process took the entry, after this death."""
        return next((at for at, pid in self.of_work[work] if at >= death.at and pid != death.pid), None)


def _death(life: list[Step], reads: Reads) -> Death:
    last = life[-1]
    done = {s.work for s in life if s.step == "complete"}
    begun = {s.work for s in life if s.step == "completing"}
    held = {s.work for s in life if s.step == "read"} - done
    taken_up = {work: reads.next_life(work, last) for work in held}
    # Its last step may have taken effect before it could write that down: then nobody takes the entry again.
    again = [at for work, at in taken_up.items() if at is not None or work not in begun]
    if not again:
        taken = reads.of_consumer[last.consumer]
        place = bisect_right(taken, last.at, key=lambda read: read[0])
        at, came = taken[place] if place < len(taken) else (last.at, last.at)  # nothing came: nothing had to wait
        again = [last.at + max(0.0, at - max(last.at, came))]
    resumed = None if None in again else max(at for at in again if at is not None) - last.at
    return Death(last.at, last.consumer, last.step, resumed)


class Watch:
    """Follows the histories of one service's replicas while they are written."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._positions = dict.fromkeys(files, 0)
        self._held: dict[int, set[tuple[str, str, str]]] = defaultdict(set)
        self._completing: dict[tuple[str, str, str], int] = {}

    def unfinished(self, pid: int) -> int:
        """How many entries that a dead process had taken nobody has carried to their completion since."""
        for file in self._positions:
            self._follow(file)
        return sum(self._completing.get(work, pid) == pid for work in self._held[pid])

    def _follow(self, file: Path) -> None:
        if not file.exists():
            return
        with file.open("rb") as lines:
            lines.seek(self._positions[file])
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._positions[file] += len(line)
                step = Step(**json.loads(line))
                if step.step == "read":
                    self._held[step.pid].add(step.work)
                elif step.step == "complete":
                    self._held[step.pid].discard(step.work)
                elif step.step == "completing":
                    self._completing[step.work] = step.pid
