"""A batch of deliveries as the join takes it, and as it is given back."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tidemill_contracts.envelope import Event
from tidemill_contracts.events import (
    LabelObserved,
    PredictionCompleted,
    PredictionFailed,
    PredictionRequested,
    PredictionsCompleted,
    PredictionsRequested,
    RowsAnswered,
)
from tidemill_contracts.registry import InvalidEvent, parse_as
from tidemill_monitoring.domain.findings import Finding
from tidemill_monitoring.domain.join import Join
from tidemill_monitoring.domain.monitor import Found
from tidemill_monitoring.domain.outcome import Answer, is_number
from tidemill_monitoring.finished import Write
from tidemill_monitoring.translation import event_of
from tidemill_shared.delivery import Completion, Delivery, Output
from tidemill_shared.telemetry import traced

# Requests before answers before labels: within a batch that is the order of nature.
ORDER: tuple[type[Event[Any]], ...] = (
    PredictionRequested,
    PredictionsRequested,
    RowsAnswered,
    PredictionCompleted,
    PredictionFailed,
    PredictionsCompleted,
    LabelObserved,
)
_MANY = (PredictionsRequested, PredictionsCompleted, RowsAnswered)
_RANK = {kind.type_name(): rank for rank, kind in enumerate(ORDER)}


@dataclass(slots=True)
class Batch:
    """Parsed deliveries in the order in which they are fed to the join."""

    deliveries: list[Delivery]
    """Those that were understood."""
    items: list[tuple[int, Event[Any], str]]
    """Place of its delivery, the event of one row, the prediction id it is about. A table brings many."""
    dead: list[tuple[Delivery, str, str]]
    answered_by: dict[str, int] = field(default_factory=dict)
    """The item that brought a row's features and answer together, by prediction id."""
    labelled_by: dict[str, int] = field(default_factory=dict)
    """The item that made a row whole."""

    @classmethod
    def parse(cls, deliveries: Sequence[Delivery], *, regression: bool) -> "Batch":
        """Parse each by itself: one that cannot be understood is set aside and hinders no other."""
        held: list[Delivery] = []
        items: list[tuple[int, Event[Any], str]] = []
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
            rows = event.each() if isinstance(event, _MANY) else (event,)
            items += [(len(held), row, _prediction_id(row)) for row in rows]
            held.append(delivery)
        return cls(held, items, dead)

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
        outputs: list[list[Event[Any]]] = [[] for _ in self.deliveries]
        for found, by in ((answered, self.answered_by), (labelled, self.labelled_by)):
            for id_, finding in found:
                place, cause, _ = self.items[by[id_]]
                # One row may end windows of several kinds, as an answer and as a label: the id tells them apart.
                stage = "answered" if by is self.answered_by else "labelled"
                outputs[place].append(traced(event_of(finding, cause, metric, stage), cause))
        done: list[tuple[Delivery, Sequence[Output]]] = list(zip(self.deliveries, outputs, strict=True))
        return Completion(outputs=done, dead=self.dead, writes=writes, guard=guard)


def _feed(join: Join, event: Event[Any], id_: str) -> None:
    if isinstance(event, PredictionRequested):
        join.request(id_, dict(event.data.features), event.time.timestamp())
    elif isinstance(event, PredictionCompleted):
        data = event.data
        answer = Answer(data.prediction, data.probabilities, data.classes, data.model_version, data.dataset_version)
        join.complete(id_, answer)
    elif isinstance(event, PredictionFailed):
        join.fail(id_, event.data.error, event.data.field)
    elif isinstance(event, LabelObserved):
        at = event.data.observed_at or event.time
        join.label(id_, event.data.label, at.timestamp())


def _prediction_id(event: Event[Any]) -> str:
    return event.id if isinstance(event, PredictionRequested) else str(event.data.prediction_id)


def _usable(event: LabelObserved, *, regression: bool) -> bool:
    label = event.data.label
    return is_number(label) if regression else label is not None


def told(completion: Completion, cause: Event[Any], findings: Sequence[Finding], metric: str) -> Completion:
    """The same step with the findings of the batch as a whole, as consequences of its last event."""
    if not findings:
        return completion
    delivery, events = completion.outputs[-1]
    more = [traced(event_of(finding, cause, metric, "whole"), cause) for finding in findings]
    return replace(completion, outputs=[*completion.outputs[:-1], (delivery, [*events, *more])])
