"""Where models are called, so that one that takes long holds up nobody who asks another one.

A quick model answers a small call on the event loop, where it costs least; a larger call is worth a common thread. A
model that computes for long has threads of its own: on the loop, or in the common ones, all others would wait for it.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from tidemill_serving.domain.model import Model
from tidemill_serving.tally import clock

P = ParamSpec("P")
T = TypeVar("T")
_QUICK_SECONDS = 0.01
"""Of a call that the loop may make: it does nothing else meanwhile."""
_FADING = 0.9
"""What is left, after each call, of the longest one: a model is not slow for ever."""
_COMMON_THREADS = min(32, (os.cpu_count() or 1) + 4)
_OWN_THREADS = 5
"""Of a slow model: as many as a lane has batches in flight, and a call over HTTP."""


class _Pace:
    """How long a model's calls have taken lately."""

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._threads: Executor | None = None

    @property
    def quick(self) -> bool:
        """Whether it is known to be."""
        return self._seconds is not None and self._seconds < _QUICK_SECONDS

    def took(self, seconds: float) -> None:
        """One more call."""
        self._seconds = seconds if self._seconds is None else max(seconds, _FADING * self._seconds)

    def threads(self, common: Executor) -> Executor:
        """The common ones of a quick model; its own of one that is slow, or that nobody has called yet."""
        if self.quick:
            self._threads = None  # they end once they have nothing to do
            return common
        self._threads = self._threads or ThreadPoolExecutor(_OWN_THREADS, "slow-model")
        return self._threads


class Calls:
    """Of all models of this process. ``load`` is the size of a call by what the loop makes at most: above 1 is a
    thread's."""

    def __init__(self) -> None:
        self._common = ThreadPoolExecutor(_COMMON_THREADS, "model")
        self._paces: WeakKeyDictionary[Model, _Pace] = WeakKeyDictionary()

    def inline(self, model: Model | None, load: float) -> bool:
        """Whether the loop makes this call. Without a model there is nothing to compute."""
        return load <= 1 and (model is None or self._pace(model).quick)

    def here(self, model: Model | None, load: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the call returns, made by whoever asks."""
        started = clock()
        try:
            return call(*args, **kwargs)
        finally:
            if model is not None:
                self._pace(model).took((clock() - started) / max(1.0, load))

    async def apart(
        self, model: Model | None, load: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same in a thread."""
        threads = self._common if model is None else self._pace(model).threads(self._common)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, lambda: self.here(model, load, call, *args, **kwargs))

    def _pace(self, model: Model) -> _Pace:
        pace = self._paces.get(model)
        return self._paces.setdefault(model, _Pace()) if pace is None else pace
