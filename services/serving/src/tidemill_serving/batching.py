"""Concurrent HTTP requests into one model call: what came while the loop or the model was busy. No linger."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from tidemill_serving.calls import Calls
from tidemill_serving.domain.cells import Part, alone, together
from tidemill_serving.domain.model import Model
from tidemill_serving.reply import Answers, shares
from tidemill_serving.tally import clock

_MOST_ROWS = 1024
"""Of one call; a larger request is a call of its own."""
_INLINE_ROWS = 128
"""A call of more rows is worth a thread, so that requests go on being read while the model computes."""
Run = Callable[..., Awaitable[list["Answers | Exception"]]]
"""How ``_answers`` is called where not by ``Calls``. It may raise TimeoutError."""
Waiting = tuple[Part, "asyncio.Future[Answers]"]


class Batcher:
    """Joins the requests for each model; one call a model at a time. With ``run`` every call is made by that."""

    def __init__(self, calls: Calls | None = None, run: Run | None = None) -> None:
        self._calls = calls or Calls()
        self._run = run
        self._queues: dict[Model, deque[Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def predict(self, model: Model, inputs: Part) -> Answers:
        """As ``Model.predict``; raises what the model raises on these very rows, or BadRequest for one of them."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answers] = loop.create_future()
        queue = self._queues.get(model)
        if queue is None:
            queue = self._queues[model] = deque()
            # After what is ready in this turn of the loop: requests that arrived together go together.
            loop.call_soon(self._turn, model, queue)
        queue.append((inputs, future))
        return await future

    def _turn(self, model: Model, queue: deque[Waiting]) -> None:
        """Answer the next batch, and come again while there is more; an idle model has no queue."""
        batch = _take(queue)
        if not batch:
            del self._queues[model]
        elif self._run is None and self._calls.inline(model, load := _load(batch)):
            _settle(batch, self._calls.here(model, load, _answers, model, [inputs for inputs, _ in batch]))
            asyncio.get_running_loop().call_soon(self._turn, model, queue)
        else:
            call = asyncio.get_running_loop().create_task(self._call(model, queue, batch))
            self._tasks.add(call)
            call.add_done_callback(self._tasks.discard)

    async def _call(self, model: Model, queue: deque[Waiting], batch: list[Waiting]) -> None:
        parts = [inputs for inputs, _ in batch]
        try:
            if self._run:
                answers = await self._run(_answers, model, parts)
            else:
                answers = await self._calls.apart(model, _load(batch), _answers, model, parts)
        except TimeoutError as error:
            answers = [error] * len(batch)
        _settle(batch, answers)
        self._turn(model, queue)


def _take(queue: deque[Waiting]) -> list[Waiting]:
    """The oldest requests, as many as fit into one call; who has gone away meanwhile is left out."""
    batch: list[Waiting] = []
    rows = 0
    while queue and (not batch or rows + len(queue[0][0]) <= _MOST_ROWS):
        waiting = queue.popleft()
        if not waiting[1].done():
            batch.append(waiting)
            rows += len(waiting[0])
    return batch


def _load(batch: list[Waiting]) -> float:
    return sum(len(inputs) for inputs, _ in batch) / _INLINE_ROWS


def _answers(model: Model, parts: list[Part]) -> list[Answers | Exception]:
    """By one call, unless a row of one request is refused, or breaks it, for all the others."""
    started = clock()
    try:
        joined = together(parts, model.layout)
        if joined is not None:
            found = model.predict(joined)
            return [*shares(found, [len(part) for part in parts], clock() - started)]
    except Exception as error:
        if len(parts) == 1:
            return [error]
    return [_answer(model, part) for part in parts]


def _answer(model: Model, part: Part) -> Answers | Exception:
    started = clock()
    try:
        found = model.predict(alone(part, model.layout))
        return shares(found, [len(part)], clock() - started)[0]
    except Exception as error:
        return error


def _settle(batch: list[Waiting], answers: list[Answers | Exception]) -> None:
    for (_, future), answer in zip(batch, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
