"""Reaching a stack: the embedded one of a directory, or any other through TIDEMILL_ variables."""

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from tidemill_console.stack import Stack
from tidemill_shared.bus import Bus
from tidemill_shared.errors import StoreUnavailable, TidemillError
from tidemill_shared.pipelines import Pipelines
from tidemill_shared.settings import KeySettings, Settings
from tidemill_shared.store import Store

DEFAULT_DIRECTORY = Path(".tidemill")


class Unreachable(TidemillError):
    """No stack answers."""


@dataclass(frozen=True)
class Client:
    """A person's hands on a stack."""

    bus: Bus
    store: Store
    pipelines: Pipelines
    namespace: str
    keys: KeySettings


def directory() -> Path:
    """Where the embedded stack lies: TIDEMILL_DIRECTORY, else ``.tidemill`` here."""
    return Path(os.environ.get("TIDEMILL_DIRECTORY", DEFAULT_DIRECTORY))


def settings() -> Settings:
    """The embedded stack's settings, unless the environment names another one. Raises Unreachable."""
    if "TIDEMILL_REDIS__URL" in os.environ:
        return Settings()
    stack = Stack(directory())
    if not stack.running():
        raise Unreachable(
            f"no stack is running in {stack.directory}: start one with `tidemill up`, or name another one with "
            "--directory or with TIDEMILL_REDIS__URL and TIDEMILL_STORE__ENDPOINT"
        )
    return stack.settings()


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    """Connections to Redis and the store. Raises Unreachable."""
    options = settings()
    bus = Bus("console", options.redis, namespace=options.namespace)
    store = Store(options.store)
    pipelines = Pipelines(store)
    try:
        try:
            await bus.reach()
            await store.start()
            await pipelines.load()
        except (RedisError, StoreUnavailable) as error:
            raise Unreachable(f"the stack does not answer: {error}") from None
        yield Client(bus, store, pipelines, options.namespace, options.keys)
    finally:
        await bus.nodes.aclose()
        store.close()
