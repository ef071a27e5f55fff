"""A batch while a challenger is tried beside the champion: some requests are the challenger's, all are counted.

The challenger's requests are a batch of their own, in a thread of its own: no answer of the champion's waits for it.
"""

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import orjson

from tidemill_contracts.rollout import Trial
from tidemill_serving import encode
from tidemill_serving.apart import Apart
from tidemill_serving.asked import Kept
from tidemill_serving.batching import Batcher
from tidemill_serving.domain.share import chosen, threshold
from tidemill_serving.loading import Loaded
from tidemill_serving.outcomes import told
from tidemill_serving.tally import Tally, clock
from tidemill_shared.delivery import Completion, Delivery, Later
from tidemill_shared.log import logger

log = logger(__name__)
_WAITING = 1_024
"""Requests that may wait for a challenger; what comes beyond them is the champion's."""


@dataclass(frozen=True)
class Running:
    """A trial under way here, and what was counted since its stage began."""

    trial: Trial
    loaded: Loaded
    champion: Tally
    challenger: Tally
    apart: Apart
    batcher: Batcher = field(init=False)
    """Of HTTP requests, in the same thread."""
    kept: Kept[tuple[Loaded, bytes]] = field(init=False, default_factory=Kept)
    """HTTP requests of a shadow stage, with the champion that answered them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "batcher", Batcher(run=self.apart.run))

    def asked(self, champion: Loaded, body: bytes) -> None:
        """For the shadow, if there is room."""
        self.kept.put((champion, body), 1, len(body))

    def chooses(self, id_: str) -> bool:
        """Whether the challenger answers this request."""
        return chosen(id_, self.trial.version, threshold(self.trial.share))


class Work(Protocol):
    """A batch by one model."""

    answered: int
    refused: int

    def complete(self, batch: list[Delivery], once_seconds: float) -> Completion:
        """Answers and dead letters."""


Works = Callable[[str, Loaded], Work]
"""Begins a batch of a pipeline by a model."""


class Trying:
    """As ``Work``, with two models. What the challenger cannot answer, or not in its time, the champion does: the trial
    costs nobody an answer, and the challenger its place."""

    def __init__(self, work: Works, champion: Loaded, running: Running) -> None:
        self._work = work
        self._champion = champion
        self._running = running
        self.answered = 0
        self.refused = 0

    def complete(self, batch: list[Delivery], once_seconds: float) -> Completion:
        """The champion's answers and dead letters; the challenger's come later."""
        theirs, left = self._shared(batch)
        found = self._by_champion(left, once_seconds) if left else Completion()
        if theirs:
            found.later = Later(theirs, functools.partial(self._later, theirs, once_seconds))
        return found

    def _shared(self, batch: list[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
        """The challenger's part, unless it is behind, and the champion's."""
        running = self._running
        if not running.trial.share or running.apart.waiting >= _WAITING:
            return [], batch
        parts: tuple[list[Delivery], list[Delivery]] = [], []
        for delivery in batch:
            parts[not running.chooses(_id(delivery.body))].append(delivery)
        return parts

    async def _later(self, batch: list[Delivery], once_seconds: float) -> Completion:
        apart = self._running.apart
        apart.waiting += len(batch)
        try:
            found = await self._by_challenger(batch, once_seconds)
        finally:
            apart.waiting -= len(batch)
        done = {(d.stream, d.entry) for d, _ in found.outputs} if found else set()
        told(self._running.trial.pipeline, len(done), 0)
        left = [d for d in batch if (d.stream, d.entry) not in done]
        if not left:
            assert found is not None  # noqa: S101 - what is not left was answered
            return found
        own = Trying(self._work, self._champion, self._running)
        rest = await asyncio.to_thread(own._by_champion, left, once_seconds)
        told(self._running.trial.pipeline, own.answered, own.refused)
        return _joined(found, rest) if found else rest

    def _by_champion(self, batch: list[Delivery], once_seconds: float) -> Completion:
        work = self._work(self._running.trial.pipeline, self._champion)
        started = clock()
        found = work.complete(batch, once_seconds)
        self._running.champion.take(bodies(found), clock() - started)
        self.answered += work.answered
        self.refused += work.refused
        return found

    async def _by_challenger(self, batch: list[Delivery], once_seconds: float) -> Completion | None:
        """What it answered; None when it broke or took too long."""
        running, known = self._running, self._running.apart.stuck
        work = self._work(running.trial.pipeline, running.loaded)
        try:
            found, seconds = await running.apart.run(timed, work, batch, once_seconds)
        except TimeoutError:
            if not known:
                log.warning(
                    "a challenger took too long", pipeline=running.trial.pipeline, version=running.trial.version
                )
            found, seconds = None, running.apart.seconds
        _take(running.challenger, found, len(batch), seconds)
        if found is None or found.once is None:
            return None
        pairs = zip(found.outputs, found.once.ids, strict=True)
        kept = [(output, id_) for output, id_ in pairs if not _refuses(*output[1][0])]
        ids = tuple(id_ for _, id_ in kept)
        return Completion(outputs=[output for output, _ in kept], once=replace(found.once, ids=ids))


def counted(work: Work, batch: list[Delivery], once_seconds: float, tally: Tally) -> Completion | None:
    """What a model that is on trial makes of a batch, counted; None when it broke, which is no answer to any of it."""
    found, seconds = timed(work, batch, once_seconds)
    _take(tally, found, len(batch), seconds)
    return found


def timed(work: Work, batch: list[Delivery], once_seconds: float) -> tuple[Completion | None, float]:
    """What a model on trial makes of a batch, None when it broke, and how many seconds of ``clock`` that took."""
    started = clock()
    found = None
    try:
        found = work.complete(batch, once_seconds)
    except Exception as error:  # whatever is wrong with it, the champion answers
        log.error("a model on trial failed", kind=type(error).__name__)
    return found, clock() - started


def _take(tally: Tally, found: Completion | None, rows: int, seconds: float) -> None:
    if found is None:
        tally.add((), rows, seconds, "stream")
    else:
        tally.take(bodies(found), seconds)


def _id(body: bytes) -> str:
    """The event's id; what has none chooses nothing and is the champion's to refuse."""
    try:
        return str(orjson.loads(body)["id"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""


def bodies(completion: Completion) -> list[bytes]:
    """The answers as they are written."""
    return [output[1] for _, outputs in completion.outputs for output in outputs if isinstance(output, tuple)]


def _refuses(stream: str, body: bytes) -> bool:
    """Whether a request, or a row of a table, got no prediction."""
    if stream.endswith(encode.TABLE):
        return bool(orjson.loads(body)["data"].get("refused"))
    return stream.endswith(encode.FAILED)


def _joined(first: Completion, second: Completion) -> Completion:
    assert first.once is not None and second.once is not None  # noqa: S101 - requests are answered once
    return Completion(
        outputs=[*first.outputs, *second.outputs],
        dead=[*first.dead, *second.dead],
        once=replace(first.once, ids=(*first.once.ids, *second.once.ids)),
    )
