"""A batch of deliveries as the join takes it, and as it is given back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill_contracts.envelope import Event
from tidemill_contracts.events import LabelObserved, PredictionCompleted, PredictionFailed, PredictionRequested
from tidemill_contracts.registry import InvalidEvent, parse_as
from tidemill_monitoring.domain.join import Join
from tidemill_monitoring.domain.monitor import Found
from tidemill_monitoring.domain.outcome import Answer, is_number
from tidemill_monitoring.memory import Write
from tidemill_monitoring.translation import event_of
from tidemill_shared.delivery import Completion, Delivery, Output
from tidemill_shared.telemetry import traced

# Requests before answers before labels: within a batch that is the order of nature.
ORDER: tuple[type[Event[Any]], ...] = (PredictionRequested, PredictionCompleted, PredictionFailed, LabelObserved)
_RANK = {kind.type_name(): rank for rank, kind in enumerate(ORDER)}


@dataclass(slots=True)
class Batch:
    """Parsed deliveries in the order in which they are fed to the join."""

    items: list[tuple[Delivery, Event[Any], str]]
    """With the prediction id each is about."""
    dead: list[tuple[Delivery, str, str]]
    answered_by: dict[str, int] = field(default_factory=dict)
    """The item that brought a row's features and answer together, by prediction id."""
    labelled_by: dict[str, int] = field(default_factory=dict)
    """The item that made a row whole."""

    @classmethod
    def parse(cls, deliveries: Sequence[Delivery], *, regression: bool) -> "Batch":
        """Parse each by itself: one that cannot be understood is set aside and hinders no other."""
        items: list[tuple[Delivery, Event[Any], str]] = []
        dead: list[tuple[Delivery, str, str]] = []
        for delivery in sorted(deliveries, key=lambda d: _RANK.get(d.type, len(ORDER))):
            try:
                event = parse_as(ORDER[_RANK[delivery.type]], delivery.body)
            except InvalidEvent as error:
                dead.append((delivery, error.code, str(error)))
                continue
            if isinstance(event, LabelObserved) and not _usable(event, regression=regression):
                wanted = "a finite number" if regression else "a class"
                dead.append((delivery, "invalid", f"data.label: {wanted} is expected"))
                continue
            id_ = event.id if isinstance(event, PredictionRequested) else event.data.prediction_id
            items.append((delivery, event, id_))
        return cls(items, dead)

    @property
    def ids(self) -> list[str]:
        """The prediction ids the batch names, each once."""
        return list(dict.fromkeys(id_ for _, _, id_ in self.items))

    def feed(self, join: Join) -> None:
        """Give every piece to the join, and note which made a row answered or whole."""
        for at, (_, event, id_) in enumerate(self.items):
            answered, labelled = len(join.answered), len(join.labelled)
            _feed(join, event, id_)
            if len(join.answered) > answered:
                self.answered_by[id_] = at
            if len(join.labelled) > labelled:
                self.labelled_by[id_] = at

    def completion(
        self, answered: Found, labelled: Found, metric: str, writes: list[Write], guard: tuple[str, bytes | None]
    ) -> Completion:
        """Every delivery with the events it led to, and the writes, as one step."""
        outputs: list[list[Event[Any]]] = [[] for _ in self.items]
        for found, by in ((answered, self.answered_by), (labelled, self.labelled_by)):
            for id_, finding in found:
                at = by[id_]
                # One row may end windows of several kinds, as an answer and as a label: the id tells them apart.
                stage = "answered" if by is self.answered_by else "labelled"
                outputs[at].append(traced(event_of(finding, self.items[at][1], metric, stage), self.items[at][1]))
        done: list[tuple[Delivery, Sequence[Output]]] = [
            (delivery, events) for (delivery, _, _), events in zip(self.items, outputs, strict=True)
        ]
        return Completion(outputs=done, dead=self.dead, writes=writes, guard=guard)


def _feed(join: Join, event: Event[Any], id_: str) -> None:
    if isinstance(event, PredictionRequested):
        join.request(id_, dict(event.data.features), event.time.timestamp())
    elif isinstance(event, PredictionCompleted):
        data = event.data
        answer = Answer(data.prediction, data.probabilities, data.classes, data.model_version, data.dataset_version)
        join.complete(id_, answer)
    elif isinstance(event, PredictionFailed):
        join.fail(id_)
    elif isinstance(event, LabelObserved):
        at = event.data.observed_at or event.time
        join.label(id_, event.data.label, at.timestamp())


def _usable(event: LabelObserved, *, regression: bool) -> bool:
    label = event.data.label
    return is_number(label) if regression else label is not None
