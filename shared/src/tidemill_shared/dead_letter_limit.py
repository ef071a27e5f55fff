"""When nothing of a stream can be handled, the fault is ours or a producer's, and more dead letters help nobody."""

import time
from collections import deque
from collections.abc import Callable


class DeadLetterLimit:
    """Whether a stream is all poison: by number and share of what went to the dead letters within a window.

    ``count``: fewer dead letters than this within the window never reach the limit, so that a few bad events on a
    quiet stream do not. ``share``: of all that was given back within the window. In memory only.
    """

    def __init__(
        self, count: int, share: float, window_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.count = count
        self.share = share
        self.window_seconds = window_seconds
        self._clock = clock
        self._noted: dict[str, deque[tuple[float, int, int]]] = {}
        self._sums: dict[str, tuple[int, int]] = {}

    def note(self, stream: str, handled: int, buried: int) -> bool:
        """So many were handled and buried just now; whether the limit is reached."""
        if not buried and stream not in self._noted:
            return False  # the usual case costs nothing
        now = self._clock()
        noted = self._noted.setdefault(stream, deque())
        noted.append((now, handled, buried))
        good, bad = self._sums.get(stream, (0, 0))
        good, bad = good + handled, bad + buried
        while noted[0][0] < now - self.window_seconds:
            _, old_handled, old_buried = noted.popleft()
            good, bad = good - old_handled, bad - old_buried
        self._sums[stream] = good, bad
        if not bad:
            self.forget(stream)
        return bad >= self.count and bad >= self.share * (good + bad)

    def forget(self, stream: str) -> None:
        """Begin to count anew."""
        self._noted.pop(stream, None)
        self._sums.pop(stream, None)
