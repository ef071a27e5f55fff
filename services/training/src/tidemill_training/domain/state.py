"""What the governor knows of a pipeline, and what it can decide. Times are aware datetimes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import NAMESPACE_URL, uuid5

Kind = Literal["first_data", "new_data", "schedule", "drift", "performance", "operator"]
Reason = Literal[
    "in_flight",
    "cool_down",
    "coalesced",
    "waiting_for_rows",
    "mode",
    "suggested",
    "policy",
    "budget",
    "breaker_open",
    "no_dataset",
    "expired",
    "stale",
    "resolved",
]
DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Policy:
    """What the pipeline's specification allows."""

    mode: str = "auto"
    triggers: tuple[str, ...] = ("concept", "performance")
    min_rows: int = 500
    max_rows: int | None = None
    cool_down_seconds: float = 60.0
    wait_seconds: float = 7 * 86_400.0
    new_rows: int | None = None
    settle_rows: int = 1_500
    every_seconds: float | None = None
    trainings_a_day: int | None = None
    cpu_seconds_a_day: float | None = None
    breaker_refusals: int = 0
    """So many refused answers to one alarm, or twice as many to several, hand the decision to a person; 0: never."""


@dataclass(frozen=True)
class Trigger:
    """A wish for a training. ``since`` is the event time from which rows count; None counts all."""

    id: str
    kind: Kind
    asked_at: datetime
    about: str | None = None
    """The kind of drift, or ``performance``; None for what is no complaint about a model."""
    model: str | None = None
    """The model complained about."""
    since: datetime | None = None
    began: datetime | None = None
    """When the change that was noticed at ``since`` seems to have begun."""
    newest: int | None = None
    force: bool = False
    reason: str = ""
    correlation: str | None = None
    causes: tuple[str, ...] = ()
    """Ids of triggers merged into this one."""
    min_rows: int | None = None
    """More than the policy's, after an attempt with fewer rows failed."""
    attempt: int = 0
    """How often it has been served before."""
    settling: bool = False
    """A second answer to a change, with more rows; its refusal by the gate is the end of it."""
    granted: bool = False
    """A person said yes to what was suggested, or to one more attempt although the breaker is open."""
    recovered: bool = False
    """The score was back while this, a second answer, was due: when it falls again, that is another change."""
    gradual: bool = False
    """It tells of a change that goes on."""
    also: tuple[str, ...] = ()
    """Other complaints about the same model, of triggers merged into this one."""
    over: bool = False
    """What it complains about has passed by itself while it was being answered."""
    told: str | None = None
    """The reason for waiting that was published last."""

    @property
    def names_rows(self) -> bool:
        """Whether it says which rows to train on."""
        return self.since is not None or self.newest is not None

    @property
    def automatic(self) -> bool:
        """Whether nobody asked for it: mode, breaker and budget bind it. Without a first model there is no service."""
        return self.kind not in ("operator", "first_data") and not self.granted

    @property
    def run(self) -> str:
        """The id of the training this trigger becomes: a function of both, so that a repetition repeats it."""
        return str(uuid5(NAMESPACE_URL, f"urn:tidemill:training:{self.id}:{self.attempt}"))


@dataclass(frozen=True)
class Run:
    """A training, running or ended. ``id`` is its trigger's ``run``."""

    id: str
    trigger: Trigger
    started_at: datetime
    dataset: str
    rows: int = 0
    """Rows since the trigger's change when it began."""
    attempts: int = 0
    model: str | None = None
    """Version of the model it made."""
    refused: str | None = None
    """Version of the model it made, when that was refused."""


@dataclass(frozen=True)
class Spent:
    """What a training has cost."""

    at: datetime
    """When it ended."""
    cpu_seconds: float


@dataclass(frozen=True)
class State:
    """What is known of one pipeline."""

    running: Run | None = None
    last: Run | None = None
    """The last training that ended."""
    finished_at: datetime | None = None
    asked: Trigger | None = None
    queued: Trigger | None = None
    uploaded_rows: int = 0
    """Rows from outside since the last training began."""
    gradual: bool = False
    """A change that goes on was alarmed of, and no answer to it was settled with rows from after it."""
    refusals: int = 0
    """Candidates refused since one was accepted."""
    breaker_since: datetime | None = None
    """Since when only a person may start a training."""
    spent: tuple[Spent, ...] = ()
    """Trainings of the last day, oldest first."""
    scheduled_at: datetime | None = None
    """From when the next training by schedule counts, before any has ended."""
    rejected: tuple[str, ...] = ()
    """Models that were rejected before their training's end was known here."""
    handled: tuple[str, ...] = ()
    """Ids of the last events, so that a redelivered one changes nothing."""

    @property
    def waiting(self) -> bool:
        """Whether a trigger waits."""
        return self.asked is not None or self.queued is not None


@dataclass(frozen=True)
class Facts:
    """What the store knows."""

    dataset: str | None = None
    """Version of the newest dataset."""
    champion: str | None = None
    """Version of the promoted model."""
    rows: int = 0
    """Rows that have arrived since the change the queued trigger is about."""


@dataclass(frozen=True)
class Start:
    """Train now."""

    trigger: Trigger
    newest: int | None


@dataclass(frozen=True)
class Refusal:
    """Not now, or not at all."""

    trigger: Trigger
    reason: Reason
    message: str
    queued: bool
    not_before: datetime | None = None


Decision = Start | Refusal | None
