"""Which triggers wait for a training, as the published events tell it."""

from dataclasses import dataclass, field
from typing import Any

from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.events import ModelPromoted, RetrainSuppressed, TrainingGranted
from tidemill_contracts.registry import parse_as
from tidemill_contracts.streams import stream_key

_KINDS = (TrainingGranted, RetrainSuppressed, ModelPromoted)
_SOON = frozenset({"in_flight", "cool_down"})


@dataclass
class Waiting:
    """The triggers of a pipeline after the events taken so far, by id."""

    granted: list[str] = field(default_factory=list)
    """Those that became trainings, one entry for each."""
    now: dict[str, str] = field(default_factory=dict)
    """Those that wait, with the reason said last."""
    most: int = 0
    """The most that waited at once."""

    @property
    def soon(self) -> bool:
        """Whether time alone will serve one of those that wait."""
        return not _SOON.isdisjoint(self.now.values())

    def take(self, event: Event[Any]) -> None:
        """The next event."""
        cause = event.causationid or ""
        if isinstance(event, TrainingGranted):
            self.granted.append(cause)
            self.now.pop(cause, None)
        elif isinstance(event, RetrainSuppressed) and not event.data.queued:
            self.now.pop(cause, None)
        elif isinstance(event, RetrainSuppressed) and event.data.reason != "coalesced":
            self.now[cause] = event.data.reason
        elif isinstance(event, ModelPromoted):
            # A second attempt is dropped without a word when the model of the first proves better.
            self.now = {id_: reason for id_, reason in self.now.items() if id_ not in self.granted}
        self.most = max(self.most, len(self.now))


async def read(client: Any, pipeline: str, since: float) -> Waiting:
    """From the events since a time (Unix seconds), in the order of Redis's clock."""
    found = []
    for kind in _KINDS:
        stream = stream_key(client.namespace, kind.type_name())
        for entry, fields in await client.bus.redis.xrange(stream, min=int(since * 1000)):
            found.append((int(entry.split(b"-")[0]), parse_as(kind, fields[FIELD.encode()])))
    waiting = Waiting()
    for _, event in sorted(found, key=lambda f: f[0]):
        if event.pipeline == pipeline:
            waiting.take(event)
    return waiting
