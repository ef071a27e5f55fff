"""From a request written to its answer read, at a given rate, with the server in a process of its own.

Imported by ``serving_stream.py``, which is also started as the server. The load is open: requests are due at fixed
times, and what is late counts from when it was due. Whoever asks and whoever reads the answers is a thread that does
nothing else: an event loop's sleep of half a millisecond lasts one to two.
"""

import asyncio
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import hiredis
from pydantic import SecretStr
from redis import Redis

from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import PredictionCompleted, PredictionRequested
from tidemill_contracts.streams import stream_key
from tidemill_shared.bus import Bus
from tidemill_shared.lane import OnBatch
from tidemill_shared.settings import RedisSettings

PIPELINE = "benchmark"
_WARM_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0


def percentiles(url: str, password: str, bodies: list[bytes], ids: list[str], rate: int) -> dict[str, float]:
    """Milliseconds: p50, p99 and the worst of all answers but the first second's. Raises RuntimeError on a loss."""
    namespace = f"bench-{uuid.uuid4().hex[:8]}"
    script = str(Path(__file__).with_name("serving_stream.py"))
    command = [sys.executable, script, "--serve", namespace, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(password.encode() + b"\n")
        server.stdin.flush()
        server.stdout.readline()
        redis = Redis.from_url(url.replace("://", f"://:{quote(password, safe='')}@"))
        start = time.perf_counter() + 0.1
        due = {id_: start + i / rate for i, id_ in enumerate(ids)}
        requests, answers = (
            stream_key(namespace, event.type_name(), PIPELINE) for event in (PredictionRequested, PredictionCompleted)
        )
        with ThreadPoolExecutor(1) as other:
            sending = other.submit(_send, redis, requests, bodies, list(due.values()))
            late = _read(redis, answers, due)
            sending.result()
        server.stdin.close()
    redis.close()
    kept = sorted(late[int(rate * _WARM_SECONDS) :])
    return {
        "p50": round(kept[len(kept) // 2] * 1e3, 2),
        "p99": round(kept[int(len(kept) * 0.99)] * 1e3, 2),
        "worst": round(kept[-1] * 1e3, 2),
    }


def _send(redis: Redis, stream: str, bodies: list[bytes], due: list[float]) -> None:
    connection = redis.connection_pool.get_connection()
    words = [hiredis.pack_command(("XADD", stream, "*", FIELD, body)) for body in bodies]
    sent = 0
    while sent < len(bodies):
        time.sleep(max(0.0, due[sent] - time.perf_counter()))
        until, now = sent + 1, time.perf_counter()
        while until < len(bodies) and due[until] <= now:
            until += 1
        connection.send_packed_command([b"".join(words[sent:until])])
        for _ in range(sent, until):
            connection.read_response()
        sent = until
    redis.connection_pool.release(connection)


def _read(redis: Redis, stream: str, due: dict[str, float]) -> list[float]:
    connection = redis.connection_pool.get_connection()
    late: list[float] = []
    last: bytes | str = "0"
    mark = b'"prediction_id":"'
    seen: set[str] = set()
    until = max(due.values()) + _PATIENCE_SECONDS
    while len(late) < len(due):
        words = ("XREAD", "COUNT", 1_000, "BLOCK", 1_000, "STREAMS", stream, last)
        connection.send_packed_command([hiredis.pack_command(words)])
        reply = connection.read_response()
        now = time.perf_counter()
        if now > until:
            raise RuntimeError(f"{len(late)} of {len(due)} answered")
        for _, entries in reply.items() if isinstance(reply, dict) else reply or ():
            for entry, (_, body) in entries:
                last = entry
                at = body.index(mark) + len(mark)
                id_ = body[at : body.index(b'"', at)].decode()
                if id_ in seen:
                    raise RuntimeError(f"{id_} was answered twice")
                seen.add(id_)
                late.append(now - due[id_])
    redis.connection_pool.release(connection)
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
