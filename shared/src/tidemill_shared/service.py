"""The service runner: one way to start, to be watched, to drain and to end."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn, TypeVar

from pydantic import ValidationError
from redis.exceptions import RedisError
from starlette.routing import BaseRoute

from tidemill_contracts.events import PipelineDeclared
from tidemill_contracts.streams import stream_key
from tidemill_shared import history, telemetry
from tidemill_shared import log as logs
from tidemill_shared.access import Scope
from tidemill_shared.archive import Archive
from tidemill_shared.bus import Bus
from tidemill_shared.child import Child
from tidemill_shared.errors import ConfigurationError, StoreUnavailable
from tidemill_shared.guard import Door, guarded
from tidemill_shared.health import build_server
from tidemill_shared.pipelines import Pipelines
from tidemill_shared.settings import Settings
from tidemill_shared.store import Store
from tidemill_shared.tasks import end

log = logs.logger(__name__)
SettingsT = TypeVar("SettingsT", bound=Settings)
Hook = Callable[[], Awaitable[None]]
_START_SECONDS = 60.0
"""How long a service waits for Redis and the store before it gives up and lets its supervisor try again."""


class Service:
    """A composition root's result: everything is wired, nothing is connected yet."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.door = Door(settings.http)
        self.store = Store(settings.store)
        self.bus = Bus(
            name,
            settings.redis,
            namespace=settings.namespace,
            instance=settings.instance,
            delivery=settings.delivery,
        )
        self.pipelines = Pipelines(self.store)
        self.archive = Archive(self.bus, self.store)
        self.bus.tail(PipelineDeclared, self.pipelines.on_pipeline_declared)
        self._starts: list[Hook] = []
        self._stops: list[Hook] = []
        self._loops: list[Hook] = []
        self._routes: list[BaseRoute] = []
        self._conditions: list[Callable[[], bool]] = []
        self._children: list[Child] = []
        self._warming: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._consuming = False
        self.port: int | None = None

    def on_start(self, hook: Hook) -> None:
        """Run once Redis and the store are reachable, before any event is taken."""
        self._starts.append(hook)

    def on_stop(self, hook: Hook) -> None:
        """Run after the last event."""
        self._stops.append(hook)

    def employ(self, child: Child) -> None:
        """Warm it while the service connects and begins, which is ready when it is; stop it after the last event."""
        self._children.append(child)
        self.on_stop(child.stop)

    def task(self, loop: Hook) -> None:
        """Run in the background; its end is the service's end."""
        self._loops.append(loop)

    def mount(self, routes: Sequence[BaseRoute], scope: Scope) -> None:
        """Serve more than the health checks over HTTP, to whoever has a key with ``scope``."""
        self._routes += guarded(routes, self.door, scope)

    def ready_when(self, condition: Callable[[], bool]) -> None:
        """A further condition of ``/readyz``."""
        self._conditions.append(condition)

    async def run(self, stop: asyncio.Event) -> int:
        """Run until ``stop`` is set (returns 0) or something has died (returns 1)."""
        http = build_server(
            self.name, self.settings.http.host, self.settings.http.port, self._probe, self._routes, self._halted
        )
        serving = asyncio.create_task(http.serve(), name="http")
        self._warming = [asyncio.create_task(child.warm(), name="warming up") for child in self._children]
        try:
            await self._start()
            while not http.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event to wait for
                await asyncio.sleep(0.01)
            if http.started:
                self.port = http.servers[0].sockets[0].getsockname()[1]
            log.info("ready", port=self.port)
            return await self._watch(stop, serving)
        finally:
            await self._end()
            http.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)

    async def _start(self) -> None:
        self.pipelines.on_change(self.bus.serve)
        deadline = time.monotonic() + _START_SECONDS
        pause = 0.1
        while True:
            try:
                await self.store.start()
                await self.bus.connect()
                await self._know_pipelines()
                break
            except (StoreUnavailable, RedisError) as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("waiting for Redis and the object store", why=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
        for hook in self._starts:
            await hook()
        await self.bus.start()
        self._tasks = [asyncio.create_task(_forever(loop)) for loop in (*self._loops, self.archive.keep)]
        self._consuming = True

    async def _know_pipelines(self) -> None:
        await self.pipelines.load()
        await self.bus.serve(*self.pipelines.names())

    async def _watch(self, stop: asyncio.Event, serving: "asyncio.Task[None]") -> int:
        while not stop.is_set():
            problem = self._failed(serving)
            if problem:
                log.error("stopping: a part of the service has died", what=problem)
                return 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await stop.wait()
        log.info("draining")
        return 0

    def _failed(self, serving: "asyncio.Task[None]") -> str | None:
        failed = [task for task in self._warming if task.done() and (task.cancelled() or task.exception())]
        for task in (*self._tasks, *failed, serving):
            if task.done():
                error = None if task.cancelled() else task.exception()
                return f"{task.get_name()}: {error!r}"
        return self.bus.failed()

    async def _probe(self) -> str | None:
        if not self._consuming:
            return "starting"
        problem = self.bus.failed() or self._halt()
        if problem:
            return problem
        try:
            await self.bus.redis.ping()
            await self.store.ping()
        except (RedisError, StoreUnavailable) as error:
            return str(error)
        warm = all(task.done() for task in self._warming) and all(condition() for condition in self._conditions)
        return None if warm else "not warmed up"

    def _halted(self) -> list[str]:
        return sorted(self.bus.halts.streams)

    def _halt(self) -> str | None:
        """A halted stream of the control plane, which is this service's own work; one of the data plane is one
        pipeline's, and the others go on."""
        own = {stream_key(self.settings.namespace, sub.event.type_name()) for sub in self.bus.subscriptions}
        found = sorted(own & self.bus.halts.streams)
        return f"halted: {', '.join(found)}; see `tidemill dead-letters list`, then resume" if found else None

    async def _end(self) -> None:
        self._consuming = False
        await end([*self._tasks, *self._warming])
        await self.bus.stop()
        for hook in reversed(self._stops):
            await hook()
        self.store.close()


async def _forever(loop: Hook) -> None:
    await loop()
    raise RuntimeError("a background loop has ended")


async def _main(service: Service) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await service.run(stop)


def run(build: Callable[[SettingsT], Service], settings_type: type[SettingsT]) -> NoReturn:
    """The body of every service's ``main``: settings, wiring, loop, exit code (0 only when asked to stop)."""
    logs.configure(build.__module__)
    try:
        settings = settings_type()
        service = build(settings)
    except (ConfigurationError, ValidationError) as error:
        log.error("cannot start: a setting is wrong", why=str(error))
        sys.exit(2)
    logs.configure(service.name, settings.log_level)
    telemetry.configure(service.name, settings.instance)
    history.configure(service.bus.consumer, settings.history)
    try:
        code = asyncio.run(_main(service))
    except (StoreUnavailable, RedisError, ConfigurationError) as error:
        log.error("cannot start", why=str(error))
        code = 1
    finally:
        telemetry.flush()
    sys.exit(code)
