"""Three masters of a Redis Cluster as local processes."""

import contextlib
import random
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tidemill_shared import embedded
from tidemill_shared.testing.servers import Servers, process

MASTERS = 3
_SLOTS = 16_384
_BUS = 10_000
"""A master talks to the others on its port and this; before Redis 7 it cannot be told another one."""
_PATIENCE_SECONDS = 60.0


@contextlib.contextmanager
def clustered(servers: Servers, directory: Path) -> Iterator[Servers]:
    """The same S3 server with a cluster instead of its one Redis, under the same password."""
    ports = _free_ports()
    with contextlib.ExitStack() as stack:
        for port in ports:
            command = embedded.redis_server(directory / str(port), port, servers.redis_password, cluster=True)
            stack.enter_context(process(command, directory / f"{port}.log"))
        for port in ports:
            embedded.wait_for_port(port, seconds=_PATIENCE_SECONDS)
        _join([stack.enter_context(Redis(port=port, password=servers.redis_password)) for port in ports], ports)
        yield replace(servers, redis_port=ports[0], cluster=True)


def _free_ports() -> list[int]:
    found: list[int] = []
    while len(found) < MASTERS:
        port = random.randint(20_000, 50_000)  # noqa: S311 - no secret
        with socket.socket() as client, socket.socket() as bus, contextlib.suppress(OSError):
            client.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + _BUS))
            found.append(port)
    return found


def _join(masters: Sequence[Redis], ports: Sequence[int]) -> None:
    """Give each its share of the slots, let them meet, wait until each knows of all."""
    share = -(-_SLOTS // MASTERS)
    for number, master in enumerate(masters):
        first = number * share
        _ask(master, "SET-CONFIG-EPOCH", number + 1)
        _ask(master, "ADDSLOTS", *range(first, min(first + share, _SLOTS)))
        _ask(master, "MEET", "127.0.0.1", ports[0])
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not all(_whole(master) for master in masters):
        if time.monotonic() > deadline:
            raise AssertionError(f"the cluster is not whole after {_PATIENCE_SECONDS:g} s")
        time.sleep(0.02)


def _whole(master: Redis) -> bool:
    try:
        return b"cluster_state:ok" in _ask(master, "INFO") and len(_ask(master, "SLOTS")) == MASTERS
    except RedisError:
        return False


def _ask(master: Redis, *words: str | int) -> Any:
    return master.execute_command("CLUSTER", *words)  # type: ignore[no-untyped-call]
