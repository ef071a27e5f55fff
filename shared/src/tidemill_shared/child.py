"""CPU work in a child process, forked from a warm server so that it starts in milliseconds.

The parent keeps renewing its lease while the child computes; a child that is killed takes nobody with it; a child whose
parent dies ends at once, so that it cannot write beside its successor.
"""

import asyncio
import contextlib
import multiprocessing
import os
import resource
import signal
import threading
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self, TypeVar

from tidemill_shared.errors import ChildDied
from tidemill_shared.log import configure, logger

log = logger(__name__)
ResultT = TypeVar("ResultT")
OnProgress = Callable[[Any], Awaitable[None]]
_KILL_SECONDS = 5.0


@dataclass(frozen=True)
class Bounds:
    """What a child may use that reads what strangers wrote. None leaves a bound as it is."""

    memory_bytes: int | None = None
    """Of data, stacks included; address space that is only reserved does not count."""
    cpu_seconds: int | None = None
    file_bytes: int | None = None
    """Size of any one file it writes."""

    @classmethod
    def of_machine(cls) -> Self:
        """Memory alone is bound, by what the machine or the container has."""
        return cls(memory_bytes=most_memory())

    def apply(self) -> None:
        """Bind this process, for good."""
        wanted = {
            resource.RLIMIT_CORE: 0,  # a core would hold rows
            resource.RLIMIT_DATA: self.memory_bytes,
            resource.RLIMIT_CPU: self.cpu_seconds,
            resource.RLIMIT_FSIZE: self.file_bytes,
        }
        for kind, bound in wanted.items():
            _, hard = resource.getrlimit(kind)
            if bound is not None and (hard == resource.RLIM_INFINITY or bound < hard):
                resource.setrlimit(kind, (bound, bound))


def most_memory() -> int:
    """Three quarters of the memory of this machine, or of what its container may use, in bytes."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total * 3 // 4


def _watch(life: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        life.recv()
    os._exit(3)  # the parent is gone: whoever takes over starts anew


def _entry(
    out: Connection, life: Connection, service: str, bounds: Bounds, fn: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    configure(service)
    bounds.apply()
    threading.Thread(target=_watch, args=(life,), daemon=True).start()
    sending = threading.Lock()

    def send(kind: str, value: Any) -> None:
        with sending:
            out.send((kind, value))

    try:
        result = fn(*args, progress=lambda value: send("progress", value))
    except MemoryError:
        os.kill(os.getpid(), signal.SIGKILL)  # for the parent the same as a death for want of memory
    except Exception as error:
        error.add_note(traceback.format_exc())
        try:
            send("error", error)
        except Exception:  # an exception that cannot travel: send what it said
            send("error", RuntimeError("".join(traceback.format_exception(error))))
    else:
        send("result", result)


class Child:
    """Runs module-level functions in forked children. ``preload`` names modules the server imports once."""

    def __init__(self, preload: Sequence[str] = (), *, service: str = "child", bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._context = multiprocessing.get_context("forkserver")
        self._preload = list(preload)
        self._service = service
        self._running: set[Any] = set()

    async def warm(self) -> None:
        """Start the server and let it import its modules, so that the first real run does not wait for that."""
        await self.run(_nothing)

    async def run(
        self,
        fn: Callable[..., ResultT],
        *args: Any,
        on_progress: OnProgress | None = None,
        timeout_seconds: float | None = None,
    ) -> ResultT:
        """``fn(*args, progress=...)`` in a child. Its exceptions are raised here.

        Raises ChildDied when it was killed, TimeoutError when it took too long. Cancelling kills the child.
        """
        out, out_child = self._context.Pipe(duplex=False)
        life_child, life = self._context.Pipe(duplex=False)
        self._context.set_forkserver_preload(self._preload)
        process = self._context.Process(
            target=_entry, args=(out_child, life_child, self._service, self._bounds, fn, args), daemon=True
        )
        await asyncio.to_thread(process.start)
        self._running.add(process)
        out_child.close()
        life_child.close()
        try:
            async with asyncio.timeout(timeout_seconds):
                result: ResultT = await self._receive(process, out, on_progress)
                return result
        finally:
            self._running.discard(process)
            if process.is_alive():
                process.kill()
            await asyncio.shield(asyncio.to_thread(process.join, _KILL_SECONDS))
            life.close()
            out.close()

    async def _receive(self, process: Any, out: Connection, on_progress: OnProgress | None) -> Any:
        while True:
            # Polled in short steps: a thread blocked in recv could not be interrupted.
            while not await asyncio.to_thread(out.poll, 0.5):
                if not process.is_alive() and not out.poll(0):
                    raise ChildDied(f"the child process ended with code {process.exitcode} and without a result")
            try:
                kind, value = out.recv()
            except EOFError:
                await asyncio.to_thread(process.join, _KILL_SECONDS)
                code = process.exitcode
                hint = ", probably for want of memory" if code == -9 else ""
                raise ChildDied(f"the child process ended with code {code}{hint}") from None
            if kind == "result":
                return value
            if kind == "error":
                raise value
            if on_progress:
                await on_progress(value)

    async def stop(self) -> None:
        """Kill what still runs."""
        for process in list(self._running):
            process.kill()


def _nothing(progress: Callable[[Any], None]) -> None:
    return None
