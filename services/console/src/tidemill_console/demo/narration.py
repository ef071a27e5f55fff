"""What a person sees while the replay runs: a line for each thing that happens, and where the clock stands."""

from collections.abc import Callable
from typing import Any

from rich.markup import escape
from rich.status import Status

from tidemill_console.demo.record import Record
from tidemill_console.demo.scoring import over
from tidemill_console.output import notes, say
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import (
    DriftDetected,
    ModelDeployed,
    ModelPromoted,
    ModelRejected,
    PackagingFailed,
    PerformanceRecovered,
    RetrainSuppressed,
    TrainingFailed,
    TrainingGranted,
)


def _refused(what: str) -> Callable[[Any], str]:
    return lambda data: f"[yellow]{what}[/]: {escape('; '.join(r.message for r in data.reasons))}"


_SENTENCES: dict[type[Event[Any]], Callable[[Any], str]] = {
    DriftDetected: lambda d: f"[bold red]{d.kind} drift[/] detected, noticed in season {d.noticed_at:%Y}",
    TrainingGranted: lambda d: f"training: {escape(d.reason)}",
    TrainingFailed: _refused("the training failed"),
    PackagingFailed: _refused("packaging failed"),
    ModelRejected: _refused("the gate refused the model"),
    ModelPromoted: lambda d: f"promoted: {escape(d.reason)}",
    ModelDeployed: lambda d: f"[bold green]model {d.version} answers[/]",
    RetrainSuppressed: lambda d: f"[dim]no training now ({d.reason}): {escape(d.message)}[/]",
    PerformanceRecovered: lambda d: f"[green]recovered[/]: {d.metric} {d.score:.3f}",
}


def tell(event: Event[Any], season: int) -> None:
    """One line for an event that a spectator wants to know of."""
    sentence = _SENTENCES.get(type(event))
    if sentence:
        notes.print(f"  {season or 'before'}  {sentence(event.data)}")


def clock(record: Record, year: int, last: int, status: Status) -> None:
    """Where the replay stands: on the live line each season, as a line of its own each decade."""
    score = over(record.pairs(), year - 9, year)
    line = f"season {year}: F1 of the last ten seasons {score:.3f}, {record.answered} of {len(record.sent)} answered"
    status.update(line)
    if year % 10 == 9 or year == last:
        say(line)
