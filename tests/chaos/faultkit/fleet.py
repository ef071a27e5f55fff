"""Redis, the S3 server and the services as real processes that may be killed, stopped and started again."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from faultkit.proxy import Proxy
from tidemill_shared import credentials, embedded
from tidemill_shared.bus import Bus
from tidemill_shared.pipelines import Pipelines
from tidemill_shared.settings import RedisSettings, StoreSettings
from tidemill_shared.store import Store

SERVICES = ("ingestion", "training", "packaging", "validation", "serving", "monitoring")
LEASE_SECONDS = 2.0


@dataclass
class Process:
    """One process, started again whenever it ends while it is wanted."""

    name: str
    command: embedded.Command
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    wanted: bool = False
    starts: int = 0
    _running: asyncio.subprocess.Process | None = None
    _keeper: "asyncio.Task[None] | None" = None

    async def start(self) -> None:
        """Start it and keep it."""
        self.wanted = True
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep())

    async def _spawn(self) -> None:
        self.command.write_files()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TIDEMILL_")}
        with self.log.open("ab") as out:
            self._running = await asyncio.create_subprocess_exec(
                *self.command.argv, env=kept | self.command.env | self.environment, stdout=out, stderr=out
            )
        self.starts += 1

    async def _keep(self) -> None:
        while self.wanted:
            assert self._running
            await self._running.wait()
            if self.wanted:
                await asyncio.sleep(0.05)
                await self._spawn()

    def send(self, number: signal.Signals) -> bool:
        """A signal to it; False when it is not there just now."""
        if self._running is None or self._running.returncode is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            self._running.send_signal(number)
            return True
        return False

    async def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 20.0) -> None:
        """End it for good."""
        self.wanted = False
        if self._keeper:
            self._keeper.cancel()
        self.send(signal.SIGCONT)
        self.send(number)
        if self._running:
            try:
                await asyncio.wait_for(self._running.wait(), seconds)
            except TimeoutError:
                self._running.kill()
                await self._running.wait()


class Fleet:
    """A whole installation in one directory."""

    def __init__(
        self, directory: Path, *, replicas: Mapping[str, int] | None = None, proxied: bool = False, **overrides: str
    ) -> None:
        self.directory = directory
        self.credentials = credentials.create(directory / "credentials")
        self.redis_port, self.store_port = embedded.free_port(), embedded.free_port()
        self.proxies = {"redis": Proxy(self.redis_port), "store": Proxy(self.store_port)} if proxied else {}
        self.overrides = {f"TIDEMILL_{name}": value for name, value in overrides.items()}
        self.namespace = "tidemill"
        self._replicas = {name: (replicas or {}).get(name, 1) for name in SERVICES}
        self.servers: dict[str, Process] = {}
        self.services: dict[str, Process] = {}
        self._http: dict[str, int] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, directory: Path, **options: object) -> AsyncIterator[Self]:
        """Started and ready; everything is stopped at the end."""
        fleet = cls(directory, **options)  # type: ignore[arg-type]
        try:
            await fleet.start()
            yield fleet
        finally:
            await fleet.stop()

    async def start(self) -> None:
        """Servers first, then every service at once."""
        access, secret = (f.read_text() for f in (self.credentials.store_access_key, self.credentials.store_secret_key))
        commands = {
            "redis": embedded.redis_server(
                self.directory / "redis", self.redis_port, self.credentials.redis_access_list
            ),
            "store": embedded.store_server(self.directory / "store", self.store_port, access, secret),
        }
        for name, command in commands.items():
            self.servers[name] = Process(name, command, self.directory / f"{name}.log")
            await self.servers[name].start()
        for port in (self.redis_port, self.store_port):
            await asyncio.to_thread(embedded.wait_for_port, port)
        for proxy in self.proxies.values():
            await proxy.start()
        for name, count in self._replicas.items():
            for number in range(1, count + 1):
                await self.add(name, number)
        await self.ready()

    async def lose_redis(self) -> None:
        """Redis dies and its volume is gone; an empty one starts in its place."""
        redis = self.servers["redis"]
        await redis.stop(signal.SIGKILL)
        shutil.rmtree(self.directory / "redis")
        await redis.start()
        await asyncio.to_thread(embedded.wait_for_port, self.redis_port)

    async def add(self, name: str, number: int, wrapper: tuple[str, ...] = ("-m", "")) -> Process:
        """One more replica of a service; ``wrapper`` replaces ``-m tidemill_x`` by another way to start it."""
        instance = f"{name}-{number}"
        self._http[instance] = embedded.free_port()
        words = ("-m", f"tidemill_{name}") if wrapper == ("-m", "") else wrapper
        command = embedded.Command((sys.executable, *words), env=self.environment(name, number))
        self.services[instance] = Process(instance, command, self.directory / f"{instance}.log")
        await self.services[instance].start()
        return self.services[instance]

    def environment(self, name: str, number: int) -> dict[str, str]:
        """What a service is told."""
        redis, store = (
            (self.proxies["redis"].port, self.proxies["store"].port)
            if self.proxies
            else (self.redis_port, self.store_port)
        )
        told = {
            "REDIS__URL": f"redis://127.0.0.1:{redis}/0",
            "STORE__ENDPOINT": f"127.0.0.1:{store}",
            "STORE__CACHE_DIRECTORY": str(self.directory / "cache" / f"{name}-{number}"),
            "STORE__TIMEOUT_SECONDS": "3",
            "HTTP__PORT": str(self._http[f"{name}-{number}"]),
            "INSTANCE": str(number),
            "DELIVERY__LEASE_SECONDS": str(LEASE_SECONDS),
            "DELIVERY__MAX_DELIVERIES": "100",
            "DELIVERY__DEAD_LETTER_LIMIT": "1000000",
            "DELIVERY__BLOCK_SECONDS": "0.2",
        }
        return self.credentials.environment(name) | {f"TIDEMILL_{k}": v for k, v in told.items()} | self.overrides

    async def ready(self, seconds: float = 60.0) -> None:
        """Until every service says so."""
        deadline = time.monotonic() + seconds
        for instance in self.services:
            while not await asyncio.to_thread(self._is_ready, instance):
                if time.monotonic() > deadline:
                    tail = (self.directory / f"{instance}.log").read_text()[-1500:]
                    raise AssertionError(f"{instance} is not ready after {seconds} s\n{tail}")
                await asyncio.sleep(0.05)

    def _is_ready(self, instance: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._http[instance]}/readyz", timeout=2) as answer:
                return bool(json.load(answer))
        except (OSError, ValueError):
            return False

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator["Client"]:
        """A person's connections, around the proxies."""
        secret = self.credentials.redis_password().read_text()
        bus = Bus(
            "chaos",
            RedisSettings(
                url=f"redis://127.0.0.1:{self.redis_port}/0", username="operator", password=SecretStr(secret)
            ),
            namespace=self.namespace,
        )
        store = Store(
            StoreSettings(
                endpoint=f"127.0.0.1:{self.store_port}",
                access_key_file=self.credentials.store_access_key,
                secret_key_file=self.credentials.store_secret_key,
            )
        )
        await store.start()
        try:
            yield Client(bus, store, Pipelines(store), self.namespace)
        finally:
            await bus.redis.aclose()
            store.close()

    def logs(self) -> str:
        """Everything the services wrote."""
        return "\n".join((self.directory / f"{name}.log").read_text(errors="replace") for name in self.services)

    async def stop(self) -> None:
        """Stop the services, the proxies, the servers."""
        await asyncio.gather(*(p.stop() for p in self.services.values()))
        for proxy in self.proxies.values():
            await proxy.stop()
        await asyncio.gather(*(p.stop() for p in self.servers.values()))


@dataclass(frozen=True)
class Client:
    """Has what the console's commands take as their client."""

    bus: Bus
    store: Store
    pipelines: Pipelines
    namespace: str
