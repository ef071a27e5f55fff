"""Progress of a training as events: few enough for a stream, and never the reason for which a training fails."""

import time
from typing import Any

from tidemill_contracts.envelope import child_id
from tidemill_contracts.events import TrainingGranted, TrainingProgressed
from tidemill_contracts.model import TrainingProgress
from tidemill_shared.bus import Bus
from tidemill_shared.log import logger

log = logger(__name__)


class Progress:
    """Publishes what a child says, at most once in ``pause_seconds``; the rest is dropped."""

    def __init__(self, bus: Bus, event: TrainingGranted, pause_seconds: float, started: float) -> None:
        self._bus = bus
        self._event = event
        self._pause = pause_seconds
        self._started = started
        self._last = float("-inf")

    async def __call__(self, value: dict[str, Any]) -> None:
        """``value``: fields of ``TrainingProgress``."""
        now = time.monotonic()
        if now - self._last < self._pause:
            return
        self._last = now
        cause = self._event
        progress = TrainingProgress(run=cause.id, seconds=round(now - self._started, 3), **value)
        name = f"{cause.pipeline} {time.time_ns()}"
        event = TrainingProgressed.caused_by(cause, progress, subject=cause.pipeline)
        event = event.model_copy(update={"id": child_id(cause.id, event.type, name)})
        try:
            await self._bus.publish(event)
        except Exception as error:
            # Whoever watches misses a line; the training itself does not depend on it.
            log.warning("progress not published", pipeline=cause.pipeline, run=cause.id, why=repr(error))
