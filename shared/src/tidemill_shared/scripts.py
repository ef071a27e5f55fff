"""The Lua steps, loaded once and called by digest."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from tidemill_shared.raw import call

RELEASE = """if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"""
EXTEND = """if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"""


class Script:
    """A Lua script called by its digest and loaded again when the server has forgotten it."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    @classmethod
    def named(cls, name: str) -> "Script":
        """A script that lies beside this module."""
        return cls(files("tidemill_shared").joinpath(name).read_text())

    async def load(self, redis: Redis) -> None:
        """Load it, so that calls by digest find it."""
        await redis.script_load(self._source)

    async def __call__(self, redis: Redis, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run it atomically."""
        try:
            return await call(redis, "EVALSHA", self._sha, len(keys), *keys, *args)
        except NoScriptError:
            await self.load(redis)
            return await call(redis, "EVALSHA", self._sha, len(keys), *keys, *args)
