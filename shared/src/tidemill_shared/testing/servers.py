"""Real servers for tests: containers where a Docker engine answers and images are at hand, else local processes."""

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidemill_shared import embedded


@dataclass(frozen=True)
class Servers:
    """Where the servers are."""

    redis_port: int
    redis_password: str
    store_port: int
    access_key: str
    secret_key: str
    cluster: bool = False
    """Whether the port is that of one master of several."""
    cluster_nodes: str = ""
    """The others, with their ports."""

    @property
    def redis_url(self) -> str:
        """Without credentials."""
        return f"redis://127.0.0.1:{self.redis_port}/0"


@contextlib.contextmanager
def process(command: embedded.Command, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server; stop it when the block ends."""
    command.write_files()
    with log.open("ab") as out:
        running = subprocess.Popen(command.argv, env=os.environ | command.env, stdout=out, stderr=out)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextlib.contextmanager
def local_servers(directory: Path) -> Iterator[Servers]:
    """redis-server and the S3 server as processes over ``directory``."""
    servers = Servers(
        embedded.free_port(), secrets.token_hex(32), embedded.free_port(), secrets.token_hex(10), secrets.token_hex(20)
    )
    redis = embedded.redis_server(directory / "redis", servers.redis_port, servers.redis_password)
    store = embedded.store_server(directory / "store", servers.store_port, servers.access_key, servers.secret_key)
    with process(redis, directory / "redis.log"), process(store, directory / "store.log"):
        embedded.wait_for_port(servers.redis_port)
        embedded.wait_for_port(servers.store_port)
        yield servers


@contextlib.contextmanager
def container_servers() -> Iterator[Servers]:
    """The same servers in containers; asked for with TIDEMILL_TEST_SERVERS=containers."""
    from testcontainers.core.container import DockerContainer

    servers = Servers(0, secrets.token_hex(32), 0, secrets.token_hex(10), secrets.token_hex(20))
    redis = (
        DockerContainer(os.environ.get("TIDEMILL_REDIS_IMAGE", "redis:8"))
        .with_exposed_ports(6379)
        .with_command(f"redis-server --requirepass {servers.redis_password}")
    )
    store = (
        DockerContainer(os.environ.get("TIDEMILL_STORE_IMAGE", "rclone/rclone:1.75"))
        .with_exposed_ports(9000)
        .with_env("RCLONE_AUTH_KEY", f'"{servers.access_key},{servers.secret_key}"')
        .with_command("serve s3 --addr 0.0.0.0:9000 /data")
    )
    with redis, store:
        ports = int(redis.get_exposed_port(6379)), int(store.get_exposed_port(9000))
        for port in ports:
            embedded.wait_for_port(port)
        yield Servers(ports[0], servers.redis_password, ports[1], servers.access_key, servers.secret_key)
