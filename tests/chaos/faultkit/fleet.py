"""Redis, the S3 server and the services as real processes that may be killed, stopped and started again."""

import asyncio
import contextlib
import json
import secrets
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Self

from pydantic import SecretStr
from redis.asyncio import Redis

from faultkit.process import Process
from faultkit.proxy import Proxy
from tidemill_console.connection import Client
from tidemill_shared import credentials, embedded
from tidemill_shared.bus import Bus
from tidemill_shared.pipelines import Pipelines
from tidemill_shared.settings import KeySettings, RedisSettings, StoreSettings
from tidemill_shared.store import Store

SERVICES = ("ingestion", "training", "packaging", "validation", "serving", "monitoring")
LEASE_SECONDS = 2.0


class Fleet:
    """A whole installation in one directory."""

    def __init__(
        self,
        directory: Path,
        *,
        serving: int = 2,
        proxied: bool = False,
        settings: Mapping[str, str] | None = None,
        source: Callable[[Path, str], Mapping[str, str]] | None = None,
    ) -> None:
        """``settings`` go to every service, without prefix; ``source`` gives an instance a further environment."""
        self.directory = directory
        self.credentials = credentials.create(directory / "credentials")
        self.redis_port, self.store_port = embedded.free_port(), embedded.free_port()
        self.proxies = {"redis": Proxy(self.redis_port), "store": Proxy(self.store_port)} if proxied else {}
        self.namespace = "tidemill"
        self.history = directory / "history"
        self.servers: dict[str, Process] = {}
        self.services: dict[str, Process] = {}
        self._settings = dict(settings or {})
        self._source = source
        self.odd = 0
        """Instances that got a further environment."""
        self._replicas = {name: serving if name == "serving" else 1 for name in SERVICES}
        self._http: dict[str, int] = {}
        self._admin = secrets.token_hex(16)

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
        self.history.mkdir()
        with self.credentials.redis_access_list.open("a") as users:
            users.write(f"user breaker on >{self._admin} ~* +@all\n")
        access, secret = (f.read_text() for f in (self.credentials.store_access_key, self.credentials.store_secret_key))
        (self.directory / "store").mkdir()
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

    @contextlib.asynccontextmanager
    async def breaker(self) -> AsyncIterator[Redis]:
        """A connection that may break Redis itself."""
        redis = Redis.from_url(f"redis://breaker:{self._admin}@127.0.0.1:{self.redis_port}/0")
        try:
            yield redis
        finally:
            await redis.aclose()

    async def lose_redis(self) -> None:
        """Redis dies and its volume is gone; an empty one starts in its place."""
        redis = self.servers["redis"]
        await redis.stop(signal.SIGKILL)
        shutil.rmtree(self.directory / "redis")
        await redis.start()
        await asyncio.to_thread(embedded.wait_for_port, self.redis_port)

    async def add(self, name: str, number: int) -> None:
        """One more replica of a service."""
        instance = f"{name}-{number}"
        self._http[instance] = embedded.free_port()
        command = embedded.Command((sys.executable, "-m", f"tidemill_{name}"), env=self.environment(name, number))
        self.services[instance] = Process(instance, command, self.directory / f"{instance}.log")
        await self.services[instance].start()

    def environment(self, name: str, number: int) -> dict[str, str]:
        """What a service is told."""
        redis, store = (
            (self.proxies["redis"].port, self.proxies["store"].port)
            if self.proxies
            else (self.redis_port, self.store_port)
        )
        instance = f"{name}-{number}"
        told = {
            "REDIS__URL": f"redis://127.0.0.1:{redis}/0",
            "STORE__ENDPOINT": f"127.0.0.1:{store}",
            "STORE__CACHE_DIRECTORY": str(self.directory / "cache" / instance),
            "STORE__TIMEOUT_SECONDS": "3",
            "HTTP__PORT": str(self._http[instance]),
            "INSTANCE": str(number),
            "HISTORY__FILE": str(self.history / f"{instance}.jsonl"),
            "DELIVERY__LEASE_SECONDS": str(LEASE_SECONDS),
            "DELIVERY__MAX_DELIVERIES": "100",
            "DELIVERY__DEAD_LETTER_LIMIT": "1000000",
            "DELIVERY__BLOCK_SECONDS": "0.2",
        }
        environment = {f"TIDEMILL_{k}": v for k, v in (told | self._settings).items()}
        further = self._source(self.directory, instance) if self._source else {}
        self.odd += bool(further)
        return self.credentials.environment(name) | environment | dict(further)

    async def command(self, *words: str) -> str:
        """Run ``tidemill …`` as the operator would; its output. Raises AssertionError when it fails."""
        environment = self.credentials.environment() | {
            "TIDEMILL_REDIS__URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "TIDEMILL_STORE__ENDPOINT": f"127.0.0.1:{self.store_port}",
            "PATH": "/usr/bin:/bin",
        }
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tidemill_console", *words, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await running.communicate()
        assert running.returncode == 0, out.decode()
        return out.decode()

    async def ready(self, seconds: float = 300.0, only: str | None = None) -> None:
        """Until every service, or the one named, says so."""
        deadline = time.monotonic() + seconds
        for instance in [only] if only else self.services:
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
    async def client(self) -> AsyncIterator[Client]:
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
            yield Client(bus, store, Pipelines(store), self.namespace, KeySettings())
        finally:
            await bus.redis.aclose()
            store.close()

    def secrets(self) -> dict[str, bytes]:
        """Every secret of the installation by file: passwords, keys of the store and of callers, what signs."""
        made = self.credentials
        known = [made.redis_password(user) for user in ("operator", "producer", "consumer", *self._replicas)]
        known += [made.store_secret_key, *(made.api_key(name) for name in ("producer", "reader", "operator"))]
        found = {str(file.relative_to(made.directory)): file.read_bytes().strip() for file in known}
        for private, _ in made.key_pairs:
            found[str(private.relative_to(made.directory))] = private.read_bytes().splitlines()[1]
        return found

    def logs(self) -> str:
        """Everything the services wrote."""
        return "\n".join((self.directory / f"{name}.log").read_text(errors="replace") for name in self.services)

    async def stop(self) -> None:
        """Stop the services, the proxies, the servers."""
        await asyncio.gather(*(p.stop() for p in self.services.values()))
        for proxy in self.proxies.values():
            await proxy.stop()
        await asyncio.gather(*(p.stop() for p in self.servers.values()))
