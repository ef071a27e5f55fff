"""What the monitor remembers of a pipeline, in Redis: read before a batch, written in the batch's own atomic step."""

import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from redis.asyncio import Redis

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.join import Join, OpenRow
from tidemill_monitoring.domain.monitor import FORMAT, Monitor
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.domain.reference import Reference
from tidemill_monitoring.domain.score import Outcome
from tidemill_monitoring.domain.window import RowWindow
from tidemill_monitoring.finished import Finished, Write
from tidemill_monitoring.keys import Keys
from tidemill_monitoring.settings import MonitoringGroup
from tidemill_shared.log import logger

_WORDS = 500
"""Of one Redis command: Lua's stack is bounded."""
_SWEEP = 256
"""Open rows given up at most in one step."""


log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Dumped:
    """A stored state: None when nothing is stored, the champion's latest outcomes, those of windows that wait for
    labels, and closed windows."""

    state: dict[str, Any] | None
    recent: list[Outcome]
    awaited: list[tuple[str, float, Outcome]]
    history: dict[str, RowWindow]


class Memory:
    """The keys of one pipeline, and how they are read and written."""

    def __init__(self, redis: Redis, keys: Keys, bounds: MonitoringGroup) -> None:
        self._redis = redis
        self.keys = keys
        self._bounds = bounds
        self.finished = Finished(redis, keys, bounds.done_rows)

    async def read(self, ids: Sequence[str]) -> tuple[bytes | None, Join]:
        """The version of the state, and what is stored of the rows a batch names.

        The version is read first: whatever changes afterwards makes the step that is guarded by it fail.
        """
        pipe = self._redis.pipeline(transaction=False)
        pipe.get(self.keys.version)
        if ids:
            pipe.hmget(self.keys.open, list(ids))
        version, *found = await pipe.execute()
        rows = found[0] if found else ()
        known = {id_: OpenRow.load(orjson.loads(row), id_) for id_, row in zip(ids, rows, strict=True) if row}
        return version, Join(known, await self.finished.known(ids))

    async def dumped(self) -> Dumped:
        """The stored state with what lies beside it."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.get(self.keys.state)
        pipe.lrange(self.keys.recent, 0, -1)
        pipe.hgetall(self.keys.awaited)
        pipe.hgetall(self.keys.history)
        state, recent, awaited, history = await pipe.execute()
        found = orjson.loads(state) if state else None
        if found is not None and found.get("format") != FORMAT:
            log.warning("the stored state is of another version: the monitor starts afresh", state=self.keys.state)
            return Dumped(None, [], [], {})
        outcomes = [_outcome(*orjson.loads(item)) for item in recent]
        waiting = [
            (key.decode(), at, _outcome(*rest)) for key, item in awaited.items() for at, *rest in [orjson.loads(item)]
        ]
        windows = {key.decode(): RowWindow.load(orjson.loads(window)) for key, window in history.items()}
        return Dumped(found, outcomes, waiting, windows)

    async def given_up(self, wall: float) -> list[str]:
        """Open rows that are too many or have waited too long, oldest first."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.zcard(self.keys.order)
        pipe.zrange(self.keys.order, 0, _SWEEP - 1, withscores=True)
        count, oldest = await pipe.execute()
        surplus = max(0, count - self._bounds.open_rows)
        late = wall - self._bounds.open_seconds
        return [id_.decode() for i, (id_, arrived) in enumerate(oldest) if i < surplus or arrived < late]

    def writes(
        self, monitor: Monitor, join: Join, expired: Sequence[str], *, awaited: Collection[str], wall: float
    ) -> tuple[bytes, list[Write]]:
        """The new version of the state, and the commands that store what the batch changed.

        ``awaited`` are the kinds of alert that may lead to a retraining, for which labelled rows should hurry.
        """
        keys = self.keys
        version = secrets.token_hex(8).encode()
        fresh_ids = set(join.opened)
        still_open = list(join.touched)
        closed = [id_ for id_ in (*join.finished, *expired) if id_ not in fresh_ids]
        writes: list[Write] = [("SET", keys.version, version)]
        writes.append(("SET", keys.alert, "0" if monitor.alerts.isdisjoint(awaited) else "1"))
        changed = [(id_, orjson.dumps(join.known[id_].dump())) for id_ in still_open]
        writes += _batched("HSET", keys.open, [w for pair in changed for w in pair])
        writes += _batched("ZADD", keys.order, [w for id_ in still_open if id_ in fresh_ids for w in (wall, id_)])
        writes += _batched("HDEL", keys.open, closed)
        writes += _batched("ZREM", keys.order, closed)
        writes += self.finished.writes([*join.finished, *expired])
        writes += self._outcomes(monitor)
        writes += self._windows(monitor)
        writes.append(("SET", keys.held, orjson.dumps(monitor.held())))
        writes.append(("SET", keys.state, orjson.dumps(monitor.dump())))
        return version, writes

    def _outcomes(self, monitor: Monitor) -> list[Write]:
        labels = monitor.labels
        writes: list[Write] = [("DEL", self.keys.recent)] if labels.restarted else []
        newest = labels.fresh[-monitor.policy.window_rows :]
        writes += self.pushes(self.keys.recent, [orjson.dumps([o.truth, o.predicted, o.probabilities]) for o in newest])
        if newest:
            writes.append(("LTRIM", self.keys.recent, -monitor.policy.window_rows, -1))
        labels.fresh, labels.restarted = [], False
        return writes

    def _windows(self, monitor: Monitor) -> list[Write]:
        """Outcomes of windows that wait for labels, and windows that later ones are compared with."""
        ledger, inputs = monitor.labels.ledger, monitor.inputs
        rows = {k: orjson.dumps([at, o.truth, o.predicted, o.probabilities]) for k, (at, o) in ledger.fresh.items()}
        writes = _batched("HDEL", self.keys.awaited, ledger.settled)
        writes += _batched("HSET", self.keys.awaited, [word for pair in rows.items() for word in pair])
        windows = {key: orjson.dumps(inputs.history[key].dump()) for key in sorted(inputs.fresh)}
        if not inputs.history:
            writes.append(("DEL", self.keys.history))
        writes += _batched("HSET", self.keys.history, [word for pair in windows.items() for word in pair])
        ledger.fresh, ledger.settled, inputs.fresh = {}, [], set()
        return writes

    @staticmethod
    def pushes(key: str, items: Iterable[bytes]) -> list[Write]:
        """Append items to a list."""
        return _batched("RPUSH", key, list(items))


def restored(
    policy: Policy,
    calibration: Calibration,
    dumped: Dumped,
    reference: Reference | None,
) -> Monitor:
    """The monitor a stored state describes; a new one when nothing is stored."""
    if dumped.state is None:
        return Monitor.new(policy, calibration)
    return Monitor.load(policy, calibration, dumped.state, reference, dumped.recent, dumped.awaited, dumped.history)


def _outcome(truth: float, predicted: float, probabilities: Sequence[float]) -> Outcome:
    return Outcome(truth, predicted, tuple(probabilities))


def _batched(command: str, key: str, words: Sequence[str | bytes | int | float]) -> list[Write]:
    return [(command, key, *words[at : at + _WORDS]) for at in range(0, len(words), _WORDS)]
