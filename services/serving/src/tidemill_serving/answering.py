"""The prediction lanes: a small batch is answered at once, a larger one in steps that let others come between."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator

from tidemill_serving.calls import Calls
from tidemill_serving.domain.model import Model
from tidemill_serving.models import Models
from tidemill_serving.outcomes import predicted, told
from tidemill_serving.rollouts import Rollouts
from tidemill_serving.work import Work
from tidemill_shared.delivery import Completion, Delivery
from tidemill_shared.telemetry import histogram

_PART_BYTES = 64 * 1024
"""Of what is read in one go, and of a batch answered in one go: meanwhile the loop does nothing else."""
_PART_EVENTS = 128


class Answering:
    """The handler of the prediction lanes."""

    def __init__(
        self, models: Models, rollouts: Rollouts, namespace: str, once_seconds: float, calls: Calls | None = None
    ) -> None:
        self._models = models
        self._rollouts = rollouts
        self._namespace = namespace
        self._once_seconds = once_seconds
        self._calls = calls or Calls()
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def on_batch(self, pipeline: str, batch: list[Delivery]) -> Completion:
        """Every request gets exactly one answer; what is no request goes to the dead letters."""
        started = time.perf_counter()
        # Read once: the whole batch is answered by this model (and by the one tried beside it), whatever is promoted
        # meanwhile.
        loaded = await self._models.ensure(pipeline)
        tried = self._rollouts.beside(pipeline, loaded, batch)
        own = Work(pipeline, self._namespace, loaded)
        work = tried or own
        model, load = loaded.model if loaded else None, sum(len(delivery.body) for delivery in batch) / _PART_BYTES
        if self._calls.inline(model, load):
            completion = self._calls.here(model, load, work.complete, batch, self._once_seconds)
        elif tried:
            completion = await self._calls.apart(model, load, tried.complete, batch, self._once_seconds)
        else:
            completion = await self._in_steps(pipeline, own, model, batch, load)
        told(pipeline, work.answered, work.refused)
        histogram("tidemill.serving.batch.duration").record(time.perf_counter() - started, {"pipeline": pipeline})
        return completion

    async def _in_steps(
        self, pipeline: str, work: Work, model: Model | None, batch: list[Delivery], load: float
    ) -> Completion:
        """Python's part on the loop and in small pieces, the model's in a thread.

        Threads that all run Python take its lock from each other at every step, which costs more than the steps. And
        one batch is read after the other: read side by side, they would all come to the model at the same time.
        """
        async with self._reading[pipeline]:
            for part in _parts(batch):
                work.read(part)
                await asyncio.sleep(0)
            inputs = work.inputs()
        found = None
        if model is not None and inputs is not None:
            found = await self._calls.apart(model, load, predicted, model, inputs)
        return work.completion(found, self._once_seconds)


def _parts(batch: list[Delivery]) -> Iterator[list[Delivery]]:
    """The batch in order, so many events and bytes at a time."""
    part: list[Delivery] = []
    size = 0
    for delivery in batch:
        if part and (size + len(delivery.body) > _PART_BYTES or len(part) >= _PART_EVENTS):
            yield part
            part, size = [], 0
        part.append(delivery)
        size += len(delivery.body)
    if part:
        yield part
