"""What the guarantees of the completion step cost: the same requests read, answered and acknowledged with and without.

    python tests/benchmarks/delivery_cost.py [--events 20000] [--runs 5]

Pipeline: the answers and the acknowledgement of a batch in redis-py's pipeline, as people write it. Bare: the same in
one Lua step without any check, packed as the kit packs its own: what the fence must be compared with. Fenced: the
completion step, which checks the ownership of each entry. Once: the same, which also lets the first answer to each id
stand. They take turns on one Redis, and medians are compared. The last line is one JSON object. Trust the ratios, not
the rates.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from tidemill_contracts.envelope import FIELD
from tidemill_shared.delivery import Completion, Delivery, Mailbox, Once, delivery_of
from tidemill_shared.nodes import connect
from tidemill_shared.scripts import Script
from tidemill_shared.settings import RedisSettings
from tidemill_shared.testing.servers import Servers, local_servers

BATCH, BODY = 512, b"x" * 490
GROUP, CONSUMER = "serving", "serving-1"
BARE = Script(
    """for i = 2, #ARGV, 2 do
  redis.call('XADD', KEYS[2], '*', '__data__', ARGV[i + 1])
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
end"""
)
Finish = Callable[[Mailbox, str, list[Delivery]], Awaitable[None]]


async def pipeline(box: Mailbox, out: str, batch: list[Delivery]) -> None:
    """Write, acknowledge, check nothing."""
    pipe = box.redis.pipeline(transaction=False)
    for _ in batch:
        pipe.xadd(out, {FIELD: BODY})
    pipe.xack(batch[0].stream, GROUP, *(d.entry for d in batch))
    await pipe.execute()


async def bare(box: Mailbox, out: str, batch: list[Delivery]) -> None:
    """The same in one step, checking nothing."""
    words = [word for d in batch for word in (d.entry, BODY)]
    await BARE(box.redis, [batch[0].stream, out], [GROUP, *words])


async def fenced(box: Mailbox, out: str, batch: list[Delivery]) -> None:
    """The completion step."""
    if await box.complete(Completion(outputs=[(d, [(out, BODY)]) for d in batch])):
        raise RuntimeError("entries were refused")


async def once(box: Mailbox, out: str, batch: list[Delivery]) -> None:
    """The completion step of predictions."""
    ids = tuple(d.entry for d in batch)
    marks = Once(out.replace("answers", "answered"), ids, 60.0)
    if await box.complete(Completion(outputs=[(d, [(out, BODY)]) for d in batch], once=marks)):
        raise RuntimeError("entries were refused")


async def rate(redis: Any, finish: Finish, events: int) -> float:
    """Events per second from a full stream to the last acknowledgement."""
    tag = f"{{cost:{uuid.uuid4().hex[:8]}}}"
    stream, out = f"{tag}:requests", f"{tag}:answers"
    for first in range(0, events, 1000):
        pipe = redis.pipeline(transaction=False)
        for _ in range(min(1000, events - first)):
            pipe.xadd(stream, {FIELD: BODY})
        await pipe.execute()
    box = Mailbox(redis, "cost", GROUP, CONSUMER, 30.0)
    await box.load_scripts()
    await box.open([stream])
    done, started = 0, time.perf_counter()
    while done < events:
        reply = await redis.xreadgroup(GROUP, CONSUMER, {stream: ">"}, count=BATCH)
        lists = reply.values() if isinstance(reply, dict) else [entries for _, entries in reply]
        batch = [delivery_of(stream, entry, fields) for entries in lists for entry, fields in entries]
        await finish(box, out, batch)
        done += len(batch)
    seconds = time.perf_counter() - started
    if await redis.xlen(out) != events:
        raise RuntimeError("answers are missing")
    await redis.unlink(stream, out, f"{tag}:answered:0", f"{tag}:answered:1")
    return events / seconds


async def measure(servers: Servers, events: int, runs: int) -> dict[str, float]:
    """Medians of each way and their ratios."""
    password = SecretStr(servers.redis_password)
    redis = connect(RedisSettings(url=servers.redis_url, password=password), timeout_seconds=60)
    ways: dict[str, Finish] = {"pipeline": pipeline, "bare": bare, "fenced": fenced, "once": once}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    try:
        for _ in range(runs):
            for name, finish in ways.items():
                rates[name].append(await rate(redis, finish, events))
    finally:
        await redis.aclose()
    found = {f"{name}_per_second": round(statistics.median(r)) for name, r in rates.items()}
    bare_rate = found["bare_per_second"]
    return found | {
        f"{n}_ratio": round(found[f"{n}_per_second"] / bare_rate, 3) for n in ("pipeline", "fenced", "once")
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    options, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder, local_servers(Path(folder)) as servers:
        found = asyncio.run(measure(servers, options.events, options.runs))
    for name, value in found.items():
        print(f"{name:22} {value}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
