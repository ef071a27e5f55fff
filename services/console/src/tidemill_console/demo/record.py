"""What the replay sent and what came back, and the questions one asks of it."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tidemill_console.demo.scoring import Pairs
from tidemill_console.demo.seasons import Line
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import (
    DataArrived,
    DriftDetected,
    ModelDeployed,
    ModelRejected,
    PackagingFailed,
    PredictionCompleted,
    PredictionFailed,
    TrainingFailed,
    TrainingGranted,
)


@dataclass
class Record:
    """One run, as a producer and consumer outside sees it."""

    sent: dict[str, Line] = field(default_factory=dict)
    answers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Event ids of the answers to each request: more than one is a doubled answer."""
    predictions: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Error class of each request that was answered with a failure."""
    entries: int = 0
    """Stream entries that answered."""
    events: dict[str, Event[Any]] = field(default_factory=dict)
    """Everything else that happened to the pipeline, by id, in order."""
    seasons: dict[str, int] = field(default_factory=dict)
    """The season on the replay's clock when each of these was seen; 0 before the first."""

    def take_answer(self, event: PredictionCompleted | PredictionFailed) -> None:
        """Count an answer; one to a request of somebody else is none of ours."""
        prediction_id = event.data.prediction_id
        if prediction_id not in self.sent:
            return
        self.entries += 1
        self.answers[prediction_id].add(event.id)
        if isinstance(event, PredictionCompleted):
            self.predictions.setdefault(prediction_id, int(event.data.prediction or 0))
        else:
            self.failed.setdefault(prediction_id, event.data.error)

    def take(self, event: Event[Any], season: int) -> bool:
        """Note any other event; False when it was seen before."""
        if event.id in self.events:
            return False
        self.events[event.id] = event
        self.seasons[event.id] = season
        return True

    @property
    def answered(self) -> int:
        """Requests with at least one answer; answers to anything else are never kept."""
        return len(self.answers)

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return len(self.sent) - self.answered

    @property
    def doubled(self) -> int:
        """Requests with more than one answer after de-duplication by event id."""
        return sum(1 for found in self.answers.values() if len(found) > 1)

    @property
    def raw_duplicates(self) -> int:
        """Stream entries that repeat an answer under its own id."""
        return self.entries - sum(len(found) for found in self.answers.values())

    def of(self, kind: type[Any]) -> list[Any]:
        """Events of a kind, in order."""
        return [event for event in self.events.values() if isinstance(event, kind)]

    def training(self) -> bool:
        """Whether a training that was granted has not yet led to a deployed, rejected or failed model."""
        ended = sum(len(self.of(kind)) for kind in (TrainingFailed, PackagingFailed, ModelRejected))
        deployed = {event.data.version for event in self.of(ModelDeployed)}
        return len(self.of(TrainingGranted)) > ended + len(deployed)

    def fed_back(self) -> int:
        """Labelled rows that have gone back as new data."""
        return sum(event.data.rows or 0 for event in self.of(DataArrived) if event.data.origin == "feedback")

    def pairs(self) -> Pairs:
        """Truth and prediction by season. A request that was answered with a failure counts as a wrong prediction."""
        found: Pairs = {}
        for prediction_id, line in self.sent.items():
            if prediction_id in self.predictions:
                found.setdefault(line.year, []).append((line.label, self.predictions[prediction_id]))
            elif prediction_id in self.failed:
                found.setdefault(line.year, []).append((line.label, 1 - line.label))
        return found

    def seconds_to_new_champion(self) -> list[float]:
        """From each concept alarm to the next deployment; an alarm that no new model followed gives none."""
        deployed: list[datetime] = [event.time for event in self.of(ModelDeployed)]
        alarms = [event.time for event in self.of(DriftDetected) if event.data.kind == "concept"]
        return [
            (min(later) - alarm).total_seconds() for alarm in alarms if (later := [t for t in deployed if t > alarm])
        ]
