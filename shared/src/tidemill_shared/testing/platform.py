"""What a test needs of the platform: settings, a running service, events published and awaited."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import SecretStr

from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.events import PipelineDeclared
from tidemill_contracts.pipeline import DeclaredPipeline, PipelineSpec
from tidemill_contracts.registry import parse_as
from tidemill_contracts.streams import stream_key
from tidemill_shared.bus import Bus
from tidemill_shared.credentials import create
from tidemill_shared.pipelines import store_pipeline
from tidemill_shared.service import Service
from tidemill_shared.settings import DeliverySettings, KeySettings, RedisSettings, Settings, StoreSettings
from tidemill_shared.store import Store
from tidemill_shared.testing.servers import Servers

EventT = TypeVar("EventT", bound=Event[Any])
SettingsT = TypeVar("SettingsT", bound=Settings)
_START_SECONDS = 60.0


def after(cause: Event[Any]) -> Callable[[Event[Any]], bool]:
    """Tells of an event whether ``cause`` led to it: for ``wait_for``."""
    return lambda found: found.causationid == cause.id


class Platform:
    """One test's corner of the real servers."""

    def __init__(self, servers: Servers, keys: tuple[Path, Path], directory: Path) -> None:
        self.namespace = f"test-{secrets.token_hex(6)}"
        self.servers = servers
        self.directory = directory
        self._redis = RedisSettings(
            url=servers.redis_url,
            password=SecretStr(servers.redis_password),
            cluster=servers.cluster,
            cluster_nodes=servers.cluster_nodes,
        )
        self._store = StoreSettings(
            endpoint=f"127.0.0.1:{servers.store_port}",
            bucket=self.namespace,
            access_key=servers.access_key,
            secret_key=SecretStr(servers.secret_key),
            cache_directory=directory / "cache",
        )
        made = create(directory / "credentials", self.namespace)
        self._keys = KeySettings(
            private_file=keys[0],
            public_file=keys[1],
            promotion_private_file=made.promotion_private_key,
            promotion_public_file=made.promotion_public_key,
        )
        self.store = Store(self._store)
        self.bus = Bus("test", self._redis, namespace=self.namespace)
        self.redis = self.bus.redis

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, servers: Servers, keys: tuple[Path, Path], directory: Path) -> AsyncIterator[Self]:
        """Make the bucket; drop the namespace's keys at the end."""
        platform = cls(servers, keys, directory)
        await platform.store.start()
        await platform.bus.reach()
        try:
            yield platform
        finally:
            await platform.lose_redis()
            await platform.bus.nodes.aclose()
            platform.store.close()

    async def lose_redis(self) -> None:
        """Drop the namespace's keys, as when Redis is lost with its volume. Nothing may be running."""
        await self.bus.nodes.look()  # a master may have died meanwhile
        for redis in self.bus.nodes.servers():
            for pattern in (f"{{{self.namespace}}}*", f"{{{self.namespace}:*"):
                async for key in redis.scan_iter(match=pattern, count=1000):
                    await redis.delete(key)

    def settings(self, kind: type[SettingsT], **overrides: Any) -> SettingsT:
        """Settings of a service for this corner, with short leases so that tests need not wait long."""
        values: dict[str, Any] = {
            "namespace": self.namespace,
            "redis": self._redis,
            "store": self._store,
            "keys": self._keys,
            "delivery": DeliverySettings(lease_seconds=2.0, block_seconds=0.2),
        }
        return kind(**(values | overrides))

    def environment(self, **changes: str) -> dict[str, str]:
        """This corner as a service in a process of its own is told of it, with short leases."""
        values = {
            "NAMESPACE": self.namespace,
            "REDIS__URL": self._redis.url,
            "REDIS__PASSWORD": self.servers.redis_password,
            "REDIS__CLUSTER": str(self._redis.cluster).lower(),
            "REDIS__CLUSTER_NODES": self._redis.cluster_nodes,
            "STORE__ENDPOINT": self._store.endpoint,
            "STORE__BUCKET": self._store.bucket,
            "STORE__ACCESS_KEY": self.servers.access_key,
            "STORE__SECRET_KEY": self.servers.secret_key,
            "DELIVERY__LEASE_SECONDS": "2",
            "DELIVERY__BLOCK_SECONDS": "0.1",
        }
        return os.environ | {f"TIDEMILL_{name}": value for name, value in (values | changes).items()}

    @contextlib.asynccontextmanager
    async def running(self, service: Service) -> AsyncIterator[Service]:
        """Run a built service until the block ends; fails when the service failed."""
        stop = asyncio.Event()
        task = asyncio.create_task(service.run(stop))
        try:
            deadline = asyncio.get_running_loop().time() + _START_SECONDS
            # A service may halt a stream before anyone has seen it ready.
            while (problem := await service._probe()) is not None and not problem.startswith("halted"):
                if task.done():
                    raise AssertionError(f"{service.name} ended while starting: {task.exception()!r}")
                if asyncio.get_running_loop().time() > deadline:
                    raise AssertionError(f"{service.name} is not ready after {_START_SECONDS:g} s: {problem}")
                await asyncio.sleep(0.01)
            yield service
        finally:
            stop.set()
            code = await task
        assert code == 0, f"{service.name} ended with code {code}"  # noqa: S101 - a test's own check

    async def declare(self, spec: PipelineSpec) -> DeclaredPipeline:
        """Store a pipeline and announce it."""
        declared = await store_pipeline(self.store, spec)
        await self.publish(PipelineDeclared.root(declared, subject=spec.name, source="urn:test"))
        return declared

    async def publish(self, *events: Event[Any]) -> None:
        """Add events to their streams."""
        await self.bus.publish(*events)

    async def events(self, kind: type[EventT], pipeline: str | None = None) -> list[EventT]:
        """Every event of a kind so far, oldest first; data-plane kinds need the pipeline."""
        stream = stream_key(self.namespace, kind.type_name(), pipeline if kind.plane == "data" else None)
        entries: Any = await self.bus.nodes.of(stream).xrange(stream)
        found = [parse_as(kind, fields[FIELD.encode()]) for _, fields in entries]
        return [e for e in found if pipeline is None or e.pipeline == pipeline]

    async def wait_for(
        self,
        kind: type[EventT],
        where: Callable[[EventT], bool] = lambda _: True,
        *,
        pipeline: str | None = None,
        timeout: float = 60.0,  # noqa: ASYNC109 - a deadline for polling
    ) -> EventT:
        """The first event of a kind that fits, waiting for it up to ``timeout`` seconds."""
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            for event in await self.events(kind, pipeline):
                if where(event):
                    return event
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"no fitting {kind.type_name()} within {timeout} s")
            await asyncio.sleep(0.02)
