"""What happened to a pipeline, in order, as its events tell it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tidemill_contracts.drift import EvaluatedDrift, RecoveredPerformance, Statistic
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import (
    DataBroken,
    DataMended,
    DriftDetected,
    DriftEvaluated,
    DriftResolved,
    ModelPromoted,
    ModelRejected,
    PerformanceDegraded,
    PerformanceMeasured,
    PerformanceRecovered,
    RetrainSuppressed,
    RolloutChanged,
    TrainingFailed,
    TrainingGranted,
)

Tone = Literal["bad", "good", "plain"]
READ: tuple[type[Event[Any]], ...] = (
    DriftEvaluated,
    DriftDetected,
    DriftResolved,
    DataBroken,
    DataMended,
    PerformanceMeasured,
    PerformanceDegraded,
    PerformanceRecovered,
    TrainingGranted,
    TrainingFailed,
    RetrainSuppressed,
    ModelRejected,
    RolloutChanged,
    ModelPromoted,
)
"""What a report is made from."""


@dataclass(frozen=True)
class Point:
    """The score of a window."""

    time: datetime
    value: float
    error: float
    label: str
    estimated: float | None = None


@dataclass(frozen=True)
class Cell:
    """The verdict on a window."""

    time: datetime
    verdict: str
    label: str


@dataclass(frozen=True)
class Happening:
    """Something a person should know of; ``mark`` is drawn into the chart."""

    time: datetime
    what: str
    details: str
    tone: Tone
    mark: bool = False


@dataclass
class Timeline:
    """Everything a page shows of one pipeline."""

    pipeline: str
    metric: str = ""
    points: list[Point] = field(default_factory=list)
    verdicts: dict[str, list[Cell]] = field(default_factory=dict)
    happenings: list[Happening] = field(default_factory=list)
    recoveries: list[tuple[datetime, RecoveredPerformance]] = field(default_factory=list)
    latest: dict[str, EvaluatedDrift] = field(default_factory=dict)
    """By kind."""

    @classmethod
    def of(cls, pipeline: str, metric: str, events: Sequence[Event[Any]]) -> "Timeline":
        """From events in order of publication; those of other pipelines are passed over."""
        timeline = cls(pipeline, metric)
        for event in events:
            if event.pipeline == pipeline:
                timeline._take(event)
        return timeline

    @property
    def tests(self) -> tuple[Statistic, ...]:
        """The tests of the last window of inputs, gravest first."""
        return self.latest["data"].statistics if "data" in self.latest else ()

    def count(self, what: str) -> int:
        """How often something happened."""
        return sum(h.what == what for h in self.happenings)

    def _take(self, event: Event[Any]) -> None:
        if isinstance(event, DriftEvaluated):
            self._verdict(event)
        elif isinstance(event, PerformanceMeasured):
            self._score(event)
        elif (told := _told(event)) is not None:
            self.happenings.append(Happening(event.time, *told))
        if isinstance(event, PerformanceRecovered):
            self.recoveries.append((event.time, event.data))

    def _verdict(self, event: DriftEvaluated) -> None:
        data = event.data
        name = data.kind if data.reference == "training" else f"{data.kind} ({data.reference})"
        rows = f"{data.window.rows} rows" + (f", {data.window.late} late" if data.window.late else "")
        self.verdicts.setdefault(name, []).append(Cell(event.time, data.verdict, f"{data.verdict}: {rows}"))
        self.latest[data.kind] = data

    def _score(self, event: PerformanceMeasured) -> None:
        data = event.data
        if data.score is None:
            return
        rows = f"rows {data.window.first} to {data.window.last}, {data.coverage:.0%} labelled"
        label = f"{data.metric} {data.score:.3f} ± {data.standard_error or 0:.3f}, {rows}, model {data.model_version}"
        estimated = data.estimated.value if data.estimated else None
        self.points.append(Point(event.time, data.score, data.standard_error or 0.0, label, estimated))


def _told(event: Event[Any]) -> tuple[str, str, Tone, bool] | None:
    """What happened, its details, how grave it is, and whether the chart shows it."""
    data = event.data
    if isinstance(event, DriftDetected):
        course = f", {data.course}" if data.course else ""
        columns = f": {', '.join(data.features)}" if data.features else ""
        began = f", began at row {data.began_row}" if data.began_row else ""
        return "drift", f"{data.kind}{course}, noticed at row {data.noticed_row}{began}{columns}", "bad", True
    if isinstance(event, DriftResolved):
        return "drift over", f"{data.kind}: {data.reason}", "good", False
    if isinstance(event, DataBroken):
        return "broken data", f"{data.kind}: {data.message}", "bad", True
    if isinstance(event, DataMended):
        return "data mended", f"{data.kind} of {data.column}, rows {data.first} to {data.last}", "good", False
    if isinstance(event, PerformanceDegraded):
        return "degraded", f"{data.metric} {data.score:.3f}, baseline {data.baseline:.3f}", "bad", True
    if isinstance(event, PerformanceRecovered):
        return "recovered", f"{data.metric} {data.score:.3f}, baseline {data.baseline:.3f}", "good", True
    if isinstance(event, ModelPromoted):
        return data.kind, f"{data.version}: {data.reason}", "good", True
    return _trained(event)


def _trained(event: Event[Any]) -> tuple[str, str, Tone, bool] | None:
    data = event.data
    if isinstance(event, TrainingGranted):
        return "training", f"{data.trigger}: {data.reason}", "plain", False
    if isinstance(event, TrainingFailed):
        return "training failed", "; ".join(r.message for r in data.reasons), "bad", False
    if isinstance(event, RetrainSuppressed):
        return "no training", f"{data.reason}: {data.message}", "plain", False
    if isinstance(event, RolloutChanged):
        share = f" {data.share:.0%}" if data.share else ""
        return "rollout", f"{data.version} {data.stage}{share}: {data.reason}", "plain", data.stage == "abandoned"
    if isinstance(event, ModelRejected):
        return "refused", f"{data.version}: " + "; ".join(r.message for r in data.reasons), "bad", False
    return None
