"""The embedded stack: Redis, an S3 server and the six services as supervised child processes. No Docker, no root."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import xmlrpc.client
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tidemill_console.supervision import Program, Supervisor, configuration, socket_path
from tidemill_contracts.streams import DEFAULT_NAMESPACE
from tidemill_shared import credentials, embedded
from tidemill_shared.credentials import Part
from tidemill_shared.embedded import Command
from tidemill_shared.errors import ConfigurationError, TidemillError
from tidemill_shared.settings import Settings

SERVICES = ("ingestion", "training", "packaging", "validation", "serving", "monitoring")
_LEAST_REDIS_BYTES = 256 * 1024**2
_READY_SECONDS = 120.0
Say = Callable[[str], None]


class StackError(TidemillError):
    """The stack could not do what was asked; the message says what to look at."""


@dataclass(frozen=True)
class Ports:
    """Loopback ports, chosen once and kept as long as they are free."""

    redis: int
    store: int
    services: dict[str, int]


class Stack:
    """One installation in one directory: secrets, data, logs, ports."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self._file = self.directory / "stack.json"
        self._supervisor = Supervisor(self.directory)

    @property
    def credentials(self) -> credentials.Credentials:
        """Where its secrets lie."""
        return credentials.Credentials(self.directory / "credentials")

    def exists(self) -> bool:
        """Whether it was ever brought up here."""
        return self._file.exists()

    def running(self) -> bool:
        """Whether its supervisor answers."""
        return self.exists() and self._supervisor.alive()

    # -- up and down -----------------------------------------------------------------------------------------------

    def up(self, say: Say) -> None:
        """Start what is not running and wait until every service is ready. Raises StackError."""
        if self.running():
            say("already up; checking that every service is ready")
        else:
            self._prepare(say)
            say("starting redis-server, the object store and six services")
            self._spawn()
        self._wait(say)

    def _prepare(self, say: Say) -> None:
        for folder in ("redis", "store", "logs", "cache"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        if not self.exists():
            say(f"making secrets and folders in {self.directory}")
        credentials.create(self.credentials.directory, _namespace())
        ports = self._choose_ports()
        self._file.write_text(json.dumps({"redis": ports.redis, "store": ports.store, "services": ports.services}))
        config = self.directory / "supervisord.conf"
        config.touch(mode=0o600)
        config.chmod(0o600)
        config.write_text(configuration(self.directory, self._programs(ports)))

    def rotate(self, parts: Iterable[Part], *, forget: bool) -> None:
        """Make secrets anew, while nothing runs."""
        credentials.rotate(self.credentials.directory, parts, _namespace(), forget=forget)

    def _choose_ports(self) -> Ports:
        known = self.ports() if self.exists() else None
        taken = {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr}

        def keep(port: int | None) -> int:
            return port if port and port not in taken else embedded.free_port()

        return Ports(
            keep(known.redis if known else None),
            keep(known.store if known else None),
            {name: keep(known.services.get(name) if known else None) for name in SERVICES},
        )

    def _programs(self, ports: Ports) -> list[Program]:
        logs = self.directory / "logs"
        redis = embedded.redis_server(
            self.directory / "redis",
            ports.redis,
            self.credentials.redis_access_list,
            max_memory_bytes=max(_LEAST_REDIS_BYTES, psutil.virtual_memory().total // 4),
        )
        redis.write_files()
        store = embedded.store_server(
            self.directory / "store",
            ports.store,
            self.credentials.store_access_key.read_text().strip(),
            self.credentials.store_secret_key.read_text().strip(),
        )
        programs = [
            Program("redis", redis, logs / "redis.log", 1),
            Program("store", self._with_keys(store), logs / "store.log", 1),
        ]
        for name in SERVICES:
            command = Command(
                (sys.executable, "-m", f"tidemill_{name}"),
                env=self._service_environment(name, ports),
            )
            programs.append(Program(name, command, logs / f"{name}.log", 10))
        return programs

    def _with_keys(self, store: Command) -> Command:
        """The store under a script that reads the keys from their files: supervisord cannot pass on a value that holds
        quotes, and so its configuration holds no secret at all."""
        script = self.directory / "store.sh"
        access, secret = self.credentials.store_access_key, self.credentials.store_secret_key
        script.write_text(
            "#!/bin/sh\n"
            f'RCLONE_AUTH_KEY="\\"$(cat {shlex.quote(str(access))}),$(cat {shlex.quote(str(secret))})\\""\n'
            f"export RCLONE_AUTH_KEY\nexec {shlex.join(store.argv)}\n"
        )
        return Command(("/bin/sh", str(script)))

    def environment(self, ports: Ports | None = None) -> dict[str, str]:
        """What a person's process needs to reach this stack; secrets are named by file."""
        ports = ports or self.ports()
        return self._reach(ports) | self.credentials.environment()

    def _reach(self, ports: Ports) -> dict[str, str]:
        return {
            "TIDEMILL_NAMESPACE": _namespace(),
            "TIDEMILL_REDIS__URL": f"redis://127.0.0.1:{ports.redis}/0",
            "TIDEMILL_STORE__ENDPOINT": f"127.0.0.1:{ports.store}",
        }

    def _service_environment(self, name: str, ports: Ports) -> dict[str, str]:
        own = {
            "TIDEMILL_HTTP__PORT": str(ports.services[name]),
            "TIDEMILL_STORE__CACHE_DIRECTORY": str(self.directory / "cache" / name),
        }
        return self._reach(ports) | self.credentials.environment(name) | own

    def _spawn(self) -> None:
        socket_path(self.directory).unlink(missing_ok=True)
        supervisord = shutil.which("supervisord", path=str(Path(sys.executable).parent)) or "supervisord"
        done = subprocess.run(
            [supervisord, "-c", str(self.directory / "supervisord.conf")],
            capture_output=True,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("TIDEMILL_")},
            check=False,
        )
        if done.returncode:
            raise StackError(f"supervisord did not start: {(done.stderr or done.stdout).strip()[-500:]}")

    def _wait(self, say: Say) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        waiting = list(SERVICES)
        while waiting:
            for name in list(waiting):
                if self.readiness(name) is None:
                    waiting.remove(name)
                    say(f"{name} is ready ({len(SERVICES) - len(waiting)} of {len(SERVICES)})")
            if time.monotonic() > deadline:
                problems = "; ".join(f"{name}: {self.readiness(name)}" for name in waiting)
                raise StackError(f"not ready after {_READY_SECONDS:.0f} s: {problems}. Logs: {self.directory}/logs")
            time.sleep(0.05)

    def down(self, say: Say) -> bool:
        """Stop the services, then the store and Redis. False when nothing was running."""
        if not self.running():
            return False
        for name in reversed(SERVICES):
            say(f"stopping {name}")
            self._stop(name)
        pid = int((self.directory / "supervisord.pid").read_text())
        say("stopping the object store and redis-server")
        self._supervisor.shutdown()
        try:
            psutil.Process(pid).wait(60)
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired as error:
            raise StackError(f"supervisord ({pid}) does not end; logs: {self.directory}/logs") from error
        return True

    def _stop(self, name: str) -> None:
        try:
            self._supervisor.stop(name)
        except xmlrpc.client.Fault as fault:
            if "NOT_RUNNING" not in fault.faultString:
                raise StackError(f"{name} could not be stopped: {fault.faultString}") from None

    # -- looking ---------------------------------------------------------------------------------------------------

    def ports(self) -> Ports:
        """The ports in use. Raises ConfigurationError when there is no stack here."""
        try:
            raw = json.loads(self._file.read_text())
        except FileNotFoundError:
            raise ConfigurationError(f"no stack in {self.directory}: run `tidemill up` first") from None
        return Ports(raw["redis"], raw["store"], raw["services"])

    def readiness(self, name: str) -> str | None:
        """None when the service is ready, else why not."""
        url = f"http://127.0.0.1:{self.ports().services[name]}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=3):
                return None
        except urllib.error.HTTPError as error:
            with error:
                try:
                    return str(json.loads(error.read()).get("reason"))
                except ValueError:
                    return f"HTTP {error.code}"
        except OSError:
            return "does not answer"

    def processes(self) -> list[dict[str, Any]]:
        """Each program: name, state, pid, resident bytes of it and its children, seconds up, ready, reason."""
        rows = []
        for info in self._supervisor.processes():
            name = info["name"]
            reason = self.readiness(name) if name in SERVICES else None
            rows.append(
                {
                    "name": name,
                    "state": info["statename"].lower(),
                    "pid": info["pid"] or None,
                    "rss_bytes": resident(info["pid"]) if info["pid"] else 0,
                    "uptime_seconds": max(0, info["now"] - info["start"]) if info["pid"] else 0,
                    "ready": info["statename"] == "RUNNING" and reason is None,
                    "reason": reason,
                }
            )
        return rows

    def resident_bytes(self) -> int:
        """Resident memory of everything, supervisord included."""
        pid = int((self.directory / "supervisord.pid").read_text())
        return resident(pid)

    def settings(self) -> Settings:
        """Settings for a client of this stack."""
        ports = self.ports()
        return Settings.model_validate(
            {
                "namespace": _namespace(),
                "redis": {
                    "url": f"redis://127.0.0.1:{ports.redis}/0",
                    "username": "operator",
                    "password_file": self.credentials.redis_password(),
                },
                "store": {
                    "endpoint": f"127.0.0.1:{ports.store}",
                    "access_key_file": self.credentials.store_access_key,
                    "secret_key_file": self.credentials.store_secret_key,
                },
                "keys": {"operator_private_file": self.credentials.operator_private_key},
            }
        )


def _namespace() -> str:
    return os.environ.get("TIDEMILL_NAMESPACE", DEFAULT_NAMESPACE)


def resident(pid: int) -> int:
    """Resident bytes of a process and all its descendants."""
    total = 0
    try:
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            try:
                total += member.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        return 0
    return total
