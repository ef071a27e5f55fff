"""From a request written to its answer read, at a given rate, with the server in a process of its own.

Imported by ``serving_stream.py``, which also starts this file as the server. The load is open: requests are due at
fixed times, and what is late counts from when it was due.
"""

import asyncio
import sys
import time
import uuid
from pathlib import Path

import hiredis
from pydantic import SecretStr
from redis.asyncio import Redis

from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import PredictionCompleted, PredictionRequested
from tidemill_contracts.streams import stream_key
from tidemill_shared.bus import Bus
from tidemill_shared.lane import OnBatch
from tidemill_shared.nodes import connect
from tidemill_shared.raw import call
from tidemill_shared.settings import RedisSettings

PIPELINE = "benchmark"
_TICK = 0.0005
_WARM_SECONDS = 1.0


async def percentiles(url: str, password: str, bodies: list[bytes], ids: list[str], rate: int) -> dict[str, float]:
    """Milliseconds: p50, p99 and the worst of all answers but the first second's. Raises RuntimeError on a loss."""
    namespace = f"bench-{uuid.uuid4().hex[:8]}"
    redis = connect(RedisSettings(url=url, password=SecretStr(password)))
    arguments = [str(Path(__file__).with_name("serving_stream.py")), "--serve", namespace, url]
    server = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(password.encode() + b"\n")
    await server.stdout.readline()
    due = dict.fromkeys(ids, 0.0)
    reading = asyncio.create_task(_read(redis, stream_key(namespace, PredictionCompleted.type_name(), PIPELINE), due))
    start = time.perf_counter() + 0.1
    await _send(redis, stream_key(namespace, PredictionRequested.type_name(), PIPELINE), bodies, ids, due, start, rate)
    late = await asyncio.wait_for(reading, 30)
    server.stdin.close()
    await server.wait()
    await redis.aclose()
    kept = sorted(late[int(rate * _WARM_SECONDS) :])
    return {
        "p50": round(kept[len(kept) // 2] * 1e3, 2),
        "p99": round(kept[int(len(kept) * 0.99)] * 1e3, 2),
        "worst": round(kept[-1] * 1e3, 1),
    }


async def _send(
    redis: Redis, stream: str, bodies: list[bytes], ids: list[str], due: dict[str, float], start: float, rate: int
) -> None:
    connection = await redis.connection_pool.get_connection()
    sent = 0
    while sent < len(bodies):
        now = time.perf_counter()
        until = min(len(bodies), max(sent, int((now - start) * rate)))
        if until > sent:
            for i in range(sent, until):
                due[ids[i]] = start + i / rate
            words = [hiredis.pack_command(("XADD", stream, "*", FIELD, bodies[i])) for i in range(sent, until)]
            await connection.send_packed_command(b"".join(words))
            for _ in range(sent, until):
                await connection.read_response()
            sent = until
        await asyncio.sleep(_TICK)
    await redis.connection_pool.release(connection)


async def _read(redis: Redis, stream: str, due: dict[str, float]) -> list[float]:
    late: list[float] = []
    last: bytes | str = "0"
    mark = b'"prediction_id":"'
    seen: set[str] = set()
    while len(late) < len(due):
        reply = await call(redis, "XREAD", "COUNT", 1_000, "BLOCK", 1_000, "STREAMS", stream, last)
        now = time.perf_counter()
        for _, entries in reply.items() if isinstance(reply, dict) else reply or ():
            for entry, (_, body) in entries:
                last = entry
                at = body.index(mark) + len(mark)
                id_ = body[at : body.index(b'"', at)].decode()
                if id_ in seen:
                    raise RuntimeError(f"{id_} was answered twice")
                seen.add(id_)
                late.append(now - due[id_])
    return late


async def serve(namespace: str, url: str, on_batch: OnBatch, max_records: int) -> None:
    """The server: says that it is ready, and ends with its standard input."""
    password = await asyncio.to_thread(sys.stdin.readline)
    bus = Bus("serving", RedisSettings(url=url, password=SecretStr(password.strip())), namespace=namespace)
    bus.lanes([PredictionRequested], on_batch, max_records=max_records, ahead=True)
    await bus.connect()
    await bus.serve(PIPELINE)
    await bus.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await bus.stop()
