"""A challenger's own thread and time."""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Waiting = tuple["Future[Any]", Callable[[], Any]]


class Apart:
    """One call at a time. Whoever waits for one does so for ``seconds`` at most; a call cannot be ended, and until one
    that was given up on has ended there is no other. The process may end meanwhile."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.waiting = 0
        """Requests handed over and not answered yet; whoever hands them over counts them."""
        self._calls: SimpleQueue[Waiting | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._given_up: Future[Any] | None = None
        self._closed = False

    @property
    def stuck(self) -> bool:
        """Whether a call that was given up on still runs."""
        return self._given_up is not None and not self._given_up.done()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the call returns. Raises TimeoutError, and what the call raises."""
        if self.stuck or self._closed:
            raise TimeoutError
        running = self._submit(partial(call, *args, **kwargs))
        done, _ = await asyncio.wait([asyncio.wrap_future(running)], timeout=self.seconds)
        if done and not running.cancelled():
            return running.result()
        if not running.cancel():
            self._given_up = running
        raise TimeoutError

    def _submit(self, call: Callable[[], T]) -> "Future[T]":
        if self._thread is None:
            # Not an executor's: the interpreter would wait for it at its end, however long a call takes.
            self._thread = threading.Thread(target=_work, args=[self._calls], name="challenger", daemon=True)
            self._thread.start()
            weakref.finalize(self, self._calls.put, None).atexit = False
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future

    def close(self) -> None:
        """No more calls: those that wait are given up on, and one that runs is not waited for."""
        self._closed = True
        with contextlib.suppress(Empty):
            while True:
                waiting = self._calls.get_nowait()
                if waiting:
                    waiting[0].cancel()
        self._calls.put(None)


def _work(calls: "SimpleQueue[Waiting | None]") -> None:
    """Call after call, until there is None."""
    while (waiting := calls.get()) is not None:
        future, call = waiting
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
        del waiting, future, call  # or they would be kept until the next one
