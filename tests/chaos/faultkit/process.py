"""One process that may be killed, stopped, and told how to die."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidemill_shared import embedded


def _nothing() -> Mapping[str, str]:
    return {}


@dataclass
class Process:
    """Started again whenever it ends while it is wanted."""

    name: str
    command: embedded.Command
    log: Path
    environment: Callable[[], Mapping[str, str]] = _nothing
    """Of the next life, on top of the command's."""
    wanted: bool = False
    deaths: list[tuple[float, int, int]] = field(default_factory=list)
    """When, which process id, and its return code."""
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
                *self.command.argv, env=kept | self.command.env | dict(self.environment()), stdout=out, stderr=out
            )

    async def _keep(self) -> None:
        while self.wanted:
            assert self._running
            code = await self._running.wait()
            self.deaths.append((time.time(), self._running.pid, code))
            if self.wanted:
                await asyncio.sleep(0.05)
                await self._spawn()

    @property
    def pid(self) -> int | None:
        """Of the present life."""
        return self._running.pid if self._running and self._running.returncode is None else None

    def send(self, number: signal.Signals) -> bool:
        """A signal to it; False when it is not there just now."""
        if self._running is None or self._running.returncode is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            # Not by asyncio's process: that one looks first whether it has ended, and takes the answer from who waits.
            os.kill(self._running.pid, number)
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
