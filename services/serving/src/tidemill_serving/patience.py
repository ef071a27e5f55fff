"""When to try again what failed, and when no more."""

_LONGEST_SECONDS = 60.0
_LOSSES = 8
"""So often a thing may be missing, about two minutes, before it counts as gone for good."""


class Patience:
    """Of one thing that is tried again and again: each failure doubles the pause after it."""

    def __init__(self, pause_seconds: float) -> None:
        self._first = self._pause = pause_seconds
        self._next = 0.0
        self._losses = 0

    def due(self, now: float) -> bool:
        """Whether to try (again)."""
        return now >= self._next

    def succeeded(self) -> None:
        """All is forgotten."""
        self._pause, self._next, self._losses = self._first, 0.0, 0

    def failed(self, now: float, *, lost: bool) -> bool:
        """Note it; whether something was missing (``lost``) so often that there is no hope."""
        self._losses += lost
        self._next = now + self._pause
        self._pause = min(2 * self._pause, max(_LONGEST_SECONDS, self._first))
        return self._losses >= _LOSSES
