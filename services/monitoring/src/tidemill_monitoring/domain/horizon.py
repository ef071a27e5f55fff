"""Event time: which window a row belongs to, how far the watermark is, and which rows are late.

The watermark lies ``lateness`` seconds behind the newest event time. A window by time closes when the watermark passes
its end; a row for a closed window is late. With windows by count a late row still belongs to the open window.
"""

import math
from dataclasses import dataclass

AHEAD_SECONDS = 86_400.0
"""A row from further in the future than this has a broken clock: it does not move the watermark."""


@dataclass(slots=True)
class Horizon:
    """Where the event time of a pipeline stands."""

    newest: float | None = None
    late: int = 0
    """Late rows since a window closed."""
    ahead: int = 0
    """Rows from the future, likewise."""

    def note(self, time: float, lateness: float, wall: float) -> bool:
        """Take a row's event time; whether it may go into a window by time, which a row from the future may not."""
        if time > wall + AHEAD_SECONDS:
            self.ahead += 1
            return False
        if self.newest is not None and time < self.newest - lateness:
            self.late += 1
            return True
        self.newest = time if self.newest is None else max(self.newest, time)
        return True

    def closed(self, lateness: float, width: float) -> int | None:
        """Windows by time with an index below this are closed; None before any row."""
        return None if self.newest is None else math.floor((self.newest - lateness) / width)
