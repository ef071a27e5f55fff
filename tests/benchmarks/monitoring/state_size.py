"""What Redis keeps of a pipeline, by MEMORY USAGE, at the defaults and at settings that ask for more.

    python tests/benchmarks/monitoring/state_size.py

50 columns (40 numbers), two classes, ids are UUIDs; one label in a hundred never comes, so that windows wait as long
as they may. A redis-server of its own. The last line is one JSON object: kilobytes by what they are for.
"""

import asyncio
import json
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drift_peers import window
from redis.asyncio import Redis
from window_check import reference_of, with_rows

from tidemill_monitoring.domain.calibration import Calibration
from tidemill_monitoring.domain.join import Join
from tidemill_monitoring.domain.monitor import Champion, Monitor
from tidemill_monitoring.domain.outcome import Answer
from tidemill_monitoring.domain.policy import Policy
from tidemill_monitoring.keys import Keys
from tidemill_monitoring.memory import Memory
from tidemill_monitoring.settings import MonitoringGroup
from tidemill_shared.testing.servers import local_servers

PURPOSES = {
    "done": "ids of finished rows",
    "awaited": "outcomes of windows that wait for labels",
    "recent": "latest outcomes",
    "history": "windows that later ones are compared with",
    "open": "rows that wait for their label",
    "order": "rows that wait for their label",
}
"""By the first part of a key; the rest is the state itself."""
BATCH = 500
CLASSES = (False, True)
VERSION = "0" * 12
DEFAULT: dict[str, Any] = {"window_rows": 500}
SEASON = {"window_seconds": 120.0, "lateness_seconds": 600.0, "season_seconds": 168 * 120.0}
CASES: dict[str, tuple[int, dict[str, Any], dict[str, int]]] = {
    "defaults": (100_000, DEFAULT, {}),
    "windows of 2 500": (20_000, {"window_rows": 2_500}, {}),
    "windows of 20 000": (60_000, {"window_rows": 20_000}, {}),
    "a season of 168 windows": (25_000, DEFAULT | SEASON | {"references": ("training", "previous", "season")}, {}),
    "30 000 waiting outcomes": (40_000, DEFAULT, {"awaited_rows": 30_000}),
}
"""Rows played, policy, settings."""


def batches(rows: int) -> Iterator[tuple[int, list[tuple[str, dict[str, Any]]]]]:
    """Ids and features, with the number of the first."""
    part = window(10_000, 2, shifted=False).to_dict("records")
    for first in range(0, rows, BATCH):
        yield first, [(str(uuid.uuid4()), part[n % len(part)]) for n in range(first, min(first + BATCH, rows))]


def joined(join: Join, first: int, rows: list[tuple[str, dict[str, Any]]]) -> None:
    """Every row with its answer, and of 99 in 100 the label."""
    for number, (id_, features) in enumerate(rows, first):
        join.request(id_, features, float(number))
        join.complete(id_, Answer(True, (0.1234567, 0.8765433), CLASSES, VERSION, "d" * 12))
        if number % 100:
            join.label(id_, number % 10 > 0, float(number))


async def play(redis: Redis, pipeline: str, rows: int, monitor: Monitor, champion: Champion, bounds: Any) -> None:
    """The rows through the monitor and into Redis, as the service does it."""
    memory = Memory(redis, Keys("bench", pipeline), bounds)
    for first, part in batches(rows):
        _, join = await memory.read([id_ for id_, _ in part])
        joined(join, first, part)
        monitor.answered(join.answered, {VERSION: champion}, 0.0)
        monitor.labelled(join.labelled, 0.0)
        monitor.matured(0.0, bounds.awaited_rows)
        _, writes = memory.writes(monitor, join, (), awaited=(), wall=time.time())
        pipe = redis.pipeline()
        for command in writes:
            pipe.execute_command(*command)
        await pipe.execute()


async def sizes(redis: Redis, pipeline: str) -> dict[str, float]:
    """Kilobytes by purpose, and the rows that wait for their label."""
    found: Counter[str] = Counter()
    prefix = Keys("bench", pipeline).state.removesuffix("state")
    async for key in redis.scan_iter(match=f"{prefix}*", count=1_000):
        purpose = PURPOSES.get(key.decode().removeprefix(prefix).split("-")[0], "state")
        found[purpose] += await redis.memory_usage(key, samples=0) or 0
    waiting = await redis.hlen(Keys("bench", pipeline).open)
    rows = found.pop(PURPOSES["open"])
    kept = {purpose: round(size / 1e3, 1) for purpose, size in found.items()}
    return kept | {"in all": round(found.total() / 1e3, 1), "a waiting row": round(rows / max(waiting, 1) / 1e3, 2)}


async def measure(port: int, password: str) -> dict[str, Any]:
    """Every case."""
    table = window(20_000, 0, shifted=False)
    champion = Champion(VERSION, 1, with_rows(reference_of(table), table))
    redis = Redis(port=port, password=password)
    found = {}
    for name, (rows, drift, bounds) in CASES.items():
        policy = Policy(True, "accuracy", True, min_rows=100, false_alarm_rate=0.01, consecutive=2, **RATES, **drift)
        monitor = Monitor.new(policy, Calibration())
        await play(redis, name.replace(" ", "-"), rows, monitor, champion, MonitoringGroup(**bounds))
        found[name] = await sizes(redis, name.replace(" ", "-"))
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    await redis.aclose()
    return found


RATES: dict[str, float] = {"error_delta": 0.05, "recovered_share": 0.95}


def main() -> None:
    """Print the sizes."""
    with tempfile.TemporaryDirectory() as folder, local_servers(Path(folder)) as servers:
        print(json.dumps(asyncio.run(measure(servers.redis_port, servers.redis_password))))


if __name__ == "__main__":
    main()
