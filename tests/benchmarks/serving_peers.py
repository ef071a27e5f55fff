"""Rates of what is compared with the serving process: the bare loop of redis-py, FastStream handlers.

Imported by ``serving_stream.py``. The FastStream handlers run in an environment and a process of their own.
"""

import asyncio
import contextlib
import json
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from peers.environment import python_of
from redis import Redis

from tidemill_contracts.envelope import FIELD
from tidemill_shared.testing.servers import Servers

_HANDLERS = Path(__file__).with_name("peers") / "faststream_handlers.py"
_REQUIREMENTS = ("faststream[redis]", "redis[hiredis]", "orjson", "numpy", "pandas", "scikit-learn", "onnxruntime")


def environment() -> Path:
    """The interpreter of the FastStream handlers."""
    return python_of("faststream", *_REQUIREMENTS)


def bare_loop(servers: Servers, bodies: list[bytes], answer: bytes) -> float:
    """Events per second of redis-py with hiredis: read 512, write as many answers of the same size and acknowledge in
    one pipeline. No model, no look at the request, no fence."""
    redis, source, sink = Redis.from_url(_url(servers)), *_names()
    _fill(redis, source, bodies)
    with undisturbed(servers):
        started, left = time.perf_counter(), len(bodies)
        while left:
            reply: Any = redis.xreadgroup("peer", "peer", {source: ">"}, count=512)
            entries = _entries(reply)
            pipeline = redis.pipeline(transaction=False)
            for _ in entries:
                pipeline.xadd(sink, {FIELD: answer})
            pipeline.xack(source, "peer", *[entry for entry, _ in entries])
            pipeline.execute()
            left -= len(entries)
        seconds = time.perf_counter() - started
    redis.delete(source, sink)
    redis.close()
    return len(bodies) / seconds


def _entries(reply: Any) -> list[Any]:
    found = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
    return list(found[0]) if isinstance(found[0], list) else list(found)


async def faststream(
    python: Path,
    servers: Servers,
    bodies: list[bytes],
    numeric: tuple[str, ...],
    categorical: tuple[str, ...],
    onnx: bytes | None,
) -> float:
    """Events per second of a batch handler with this model or, without one, of a handler that asks scikit-learn."""
    redis, source, sink = Redis.from_url(_url(servers)), *_names()
    _fill(redis, source, bodies)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(onnx or b"")
        told = {
            "url": _url(servers),
            "source": source,
            "sink": sink,
            "count": len(bodies),
            "onnx": str(path) if onnx else None,
            "numeric": numeric,
            "categorical": categorical,
        }
        pipe = asyncio.subprocess.PIPE
        with undisturbed(servers):
            process = await asyncio.create_subprocess_exec(str(python), str(_HANDLERS), stdin=pipe, stdout=pipe)
            out, _ = await process.communicate(json.dumps(told).encode() + b"\n")
    redis.delete(source, sink)
    redis.close()
    if process.returncode:
        raise RuntimeError("the FastStream handlers failed; what they said is above")
    return len(bodies) / float(out)


@contextlib.contextmanager
def undisturbed(servers: Servers) -> Iterator[None]:
    """Redis does not rewrite its log meanwhile: it takes a third of a core, and which turn meets it is chance."""
    rewrite_at = "auto-aof-rewrite-percentage"
    with Redis.from_url(_url(servers), decode_responses=True) as redis:
        usual: Any = redis.config_get(rewrite_at)
        redis.config_set(rewrite_at, 0)
        try:
            while redis.info("persistence")["aof_rewrite_in_progress"]:  # type: ignore[index]
                time.sleep(0.05)
            yield
        finally:
            redis.config_set(rewrite_at, usual[rewrite_at])


def _url(servers: Servers) -> str:
    return servers.redis_url.replace("://", f"://:{quote(servers.redis_password, safe='')}@")


def _names() -> tuple[str, str]:
    name = uuid.uuid4().hex[:8]
    return f"{{peer-{name}}}:in", f"{{peer-{name}}}:out"


def _fill(redis: Redis, source: str, bodies: list[bytes]) -> None:
    redis.xgroup_create(source, "peer", "0", mkstream=True)
    for at in range(0, len(bodies), 1_000):
        pipeline = redis.pipeline(transaction=False)
        for body in bodies[at : at + 1_000]:
            pipeline.xadd(source, {FIELD: body})
        pipeline.execute()
