"""What the serving processes have counted of a trial's stage; it does not outlive Redis, and is then counted anew."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tidemill_contracts.events import RolloutObserved
from tidemill_contracts.rollout import DURATION_STEP, Observation, ObservedRollout, RolloutPolicy
from tidemill_contracts.streams import state_key
from tidemill_shared.bus import Bus
from tidemill_validation.domain.rollout import Counts, Limits


@dataclass(frozen=True)
class Seen:
    """Of all processes together."""

    champion: Counts
    challenger: Counts


class Observations:
    """The newest counts of each process, by pipeline."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def _key(self, pipeline: str, *, watched: bool = False) -> str:
        return state_key(self._bus.namespace, "validation", f"{'watch' if watched else 'rollout'}:{pipeline}")

    async def add(self, event: RolloutObserved) -> Seen:
        """Keep what a process counted, and add up what all have."""
        key = self._key(event.pipeline, watched=event.data.promotion is not None)
        raw: Any = await self._bus.redis.hgetall(key)
        kept = _of(raw, _subject(event.data))
        if len(kept) < len(raw):  # of a stage that is over, by processes that are gone
            await self._bus.redis.hdel(key, *(raw.keys() - kept.keys()))
        run = event.data.run.encode()
        if run not in kept or _rows(kept[run]) <= _rows(event.data):  # events may come in another order
            kept[run] = event.data
            await self._bus.redis.hset(key, event.data.run, event.data.to_json())
        return _together(kept.values())

    async def of(self, pipeline: str, trial: int) -> Seen | None:
        """What all processes have counted of a trial's stage; None where it was nothing."""
        raw: Any = await self._bus.redis.hgetall(self._key(pipeline))
        kept = _of(raw, (trial, None))
        return _together(kept.values()) if kept else None

    async def drop(self, pipeline: str) -> None:
        """Another stage begins."""
        await self._bus.redis.delete(self._key(pipeline))


def _of(raw: dict[bytes, bytes], subject: tuple[int, int | None]) -> dict[bytes, ObservedRollout]:
    kept = {run: ObservedRollout.from_json(body) for run, body in raw.items()}
    return {run: seen for run, seen in kept.items() if _subject(seen) == subject}


def _together(observed: Iterable[ObservedRollout]) -> Seen:
    champion = challenger = Counts()
    for seen in observed:
        champion, challenger = champion + counts_of(seen.champion), challenger + counts_of(seen.challenger)
    return Seen(champion, challenger)


def _subject(seen: ObservedRollout) -> tuple[int, int | None]:
    return seen.trial, seen.promotion


def _rows(seen: ObservedRollout) -> int:
    return seen.champion.rows + seen.challenger.rows


def counts_of(seen: Observation) -> Counts:
    """A document's counts."""
    # Counts of a version that told no routes are compared with their like alone.
    routes = seen.routes or {"": seen.calls}
    calls = {route: {int(k): n for k, n in bins.items()} for route, bins in routes.items()}
    return Counts(seen.rows, seen.failed, calls, seen.answers)


def limits_of(policy: RolloutPolicy, *, rows: int, seconds: float) -> Limits:
    """What a stage of so many rows and seconds asks for."""
    return Limits(rows, seconds, policy.max_errors, policy.max_slowdown, policy.max_distance, DURATION_STEP)
