"""A batch while a challenger is tried beside the champion: some requests are the challenger's, all are counted."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import orjson

from tidemill_contracts.rollout import Trial
from tidemill_serving import encode
from tidemill_serving.domain.share import chosen, threshold
from tidemill_serving.loading import Loaded
from tidemill_serving.tally import Tally
from tidemill_shared.delivery import Completion, Delivery
from tidemill_shared.log import logger

log = logger(__name__)


@dataclass(frozen=True)
class Running:
    """A trial under way here, and what was counted since its stage began."""

    trial: Trial
    loaded: Loaded
    champion: Tally
    challenger: Tally

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
    """As ``Work``, with two models. What the challenger cannot answer the champion does: the trial costs nobody an
    answer, and the challenger its place."""

    def __init__(self, work: Works, champion: Loaded, running: Running) -> None:
        self._work = work
        self._champion = champion
        self._running = running
        self.answered = 0
        self.refused = 0

    def complete(self, batch: list[Delivery], once_seconds: float) -> Completion:
        """Answers and dead letters of both."""
        theirs = [d for d in batch if self._running.chooses(_id(d.body))] if self._running.trial.share else []
        found = self._by_challenger(theirs, once_seconds) if theirs else None
        if found is None:
            return self._by_champion(batch, once_seconds)
        done = {(d.stream, d.entry) for d, _ in found.outputs}
        left = [d for d in batch if (d.stream, d.entry) not in done]
        return _joined(found, self._by_champion(left, once_seconds)) if left else found

    def _by_champion(self, batch: list[Delivery], once_seconds: float) -> Completion:
        work = self._work(self._running.trial.pipeline, self._champion)
        started = time.perf_counter()
        found = work.complete(batch, once_seconds)
        self._running.champion.take(bodies(found), time.perf_counter() - started)
        self.answered += work.answered
        self.refused += work.refused
        return found

    def _by_challenger(self, batch: list[Delivery], once_seconds: float) -> Completion | None:
        """What it answered; None when it broke."""
        work = self._work(self._running.trial.pipeline, self._running.loaded)
        found = counted(work, batch, once_seconds, self._running.challenger)
        if found is None:
            return None
        assert found.once is not None  # noqa: S101 - requests are answered once
        pairs = zip(found.outputs, found.once.ids, strict=True)
        kept = [(output, id_) for output, id_ in pairs if not _refuses(*output[1][0])]
        self.answered += len(kept)
        ids = tuple(id_ for _, id_ in kept)
        return Completion(outputs=[output for output, _ in kept], once=replace(found.once, ids=ids))


def counted(work: Work, batch: list[Delivery], once_seconds: float, tally: Tally) -> Completion | None:
    """What a model that is on trial makes of a batch, counted; None when it broke, which is no answer to any of it."""
    started = time.perf_counter()
    try:
        found = work.complete(batch, once_seconds)
    except Exception as error:  # whatever is wrong with it, the champion answers
        log.error("a model on trial failed", version=tally.version, kind=type(error).__name__)
        tally.add((), len(batch), time.perf_counter() - started)
        return None
    tally.take(bodies(found), time.perf_counter() - started)
    return found


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
