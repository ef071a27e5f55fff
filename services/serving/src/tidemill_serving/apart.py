"""A challenger's own thread and time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Apart:
    """One call at a time. Whoever waits for one does so for ``seconds`` at most; a call cannot be ended, and until one
    that was given up on has ended there is no other."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.waiting = 0
        """Requests handed over and not answered yet; whoever hands them over counts them."""
        self._thread = ThreadPoolExecutor(1, "challenger")
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
        running = self._thread.submit(call, *args, **kwargs)
        done, _ = await asyncio.wait([asyncio.wrap_future(running)], timeout=self.seconds)
        if done and not running.cancelled():
            return running.result()
        if not running.cancel():
            self._given_up = running
        raise TimeoutError

    def close(self) -> None:
        """No more calls: those that wait are given up on, and one that runs is not waited for."""
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)
