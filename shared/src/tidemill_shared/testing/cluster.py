"""Three masters of a Redis Cluster as local processes, on request with a replica each."""

import contextlib
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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


_NODE_TIMEOUT_MS = 2_000
"""A master that is silent for so long is replaced by its replica."""


@dataclass(frozen=True)
class Replicated:
    """Masters with replicas, whose processes a test may kill."""

    servers: Servers
    processes: Mapping[int, "subprocess.Popen[bytes]"]
    """By port."""

    def kill(self, port: int) -> None:
        """As a machine that loses its power does it."""
        self.processes[port].kill()
        self.processes[port].wait()


@contextlib.contextmanager
def clustered(servers: Servers, directory: Path) -> Iterator[Servers]:
    """The same S3 server with a cluster instead of its one Redis, under the same password."""
    with contextlib.ExitStack() as stack:
        started = _started(stack, servers, directory, MASTERS)
        _join([client for client, _ in started.values()], list(started))
        yield replace(servers, redis_port=next(iter(started)), cluster=True)


@contextlib.contextmanager
def replicated(servers: Servers, directory: Path) -> Iterator[Replicated]:
    """The same, each master with a replica that takes its place when it dies."""
    with contextlib.ExitStack() as stack:
        started = _started(stack, servers, directory, 2 * MASTERS)
        ports, clients = list(started), [client for client, _ in started.values()]
        for client in clients:
            client.config_set("masterauth", servers.redis_password)
            client.config_set("repl-diskless-sync-delay", 0)
            client.config_set("cluster-node-timeout", _NODE_TIMEOUT_MS)
        _join(clients[:MASTERS], ports[:MASTERS])
        for replica, master in zip(clients[MASTERS:], clients[:MASTERS], strict=True):
            _follow(replica, ports[0], str(_ask(master, "MYID"), "ascii"))
        _wait("each master has its replica", lambda: all(_followed(master) for master in clients[:MASTERS]))
        others = ",".join(f"127.0.0.1:{port}" for port in ports[1:])
        found = replace(servers, redis_port=ports[0], cluster=True, cluster_nodes=others)
        yield Replicated(found, {port: running for port, (_, running) in started.items()})


def _started(
    stack: contextlib.ExitStack, servers: Servers, directory: Path, count: int
) -> dict[int, tuple[Redis, "subprocess.Popen[bytes]"]]:
    """By port; nobody knows of anybody yet."""
    running = {}
    for port in _free_ports(count):
        command = embedded.redis_server(directory / str(port), port, servers.redis_password, cluster=True)
        running[port] = stack.enter_context(process(command, directory / f"{port}.log"))
    for port in running:
        embedded.wait_for_port(port, seconds=_PATIENCE_SECONDS)
    return {
        port: (stack.enter_context(Redis(port=port, password=servers.redis_password)), one)
        for port, one in running.items()
    }


def _follow(replica: Redis, somebody: int, master: str) -> None:
    """Let a server meet the others, and replicate a master as soon as it knows it."""
    _ask(replica, "MEET", "127.0.0.1", somebody)

    def done() -> bool:
        try:
            _ask(replica, "REPLICATE", master)
        except RedisError:
            return False
        return True

    _wait("a replica knows its master", done)


def _followed(master: Redis) -> bool:
    told: Any = master.info("replication")
    return int(told["connected_slaves"]) == 1 and told["slave0"]["state"] == "online"


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
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
    _wait("the cluster is whole", lambda: all(_whole(master) for master in masters))


def _wait(what: str, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {_PATIENCE_SECONDS:g} s: {what}")
        time.sleep(0.02)


def _whole(master: Redis) -> bool:
    try:
        return b"cluster_state:ok" in _ask(master, "INFO") and len(_ask(master, "SLOTS")) == MASTERS
    except RedisError:
        return False


def _ask(master: Redis, *words: str | int) -> Any:
    return master.execute_command("CLUSTER", *words)  # type: ignore[no-untyped-call]
