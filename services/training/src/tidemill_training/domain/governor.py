"""The governor: which triggers become trainings, when, and on which rows.

Single flight (one training a pipeline), cool-down after each, coalescing with a trailing edge (triggers that come
while one runs are merged into one that is served afterwards), and patience (a trigger waits until enough rows have
arrived since the change was noticed). Pure: the state goes in, the state and the decision come out.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

Reason = Literal[
    "in_flight", "cool_down", "coalesced", "waiting_for_rows", "mode", "policy", "no_dataset", "expired", "stale"
]
_REMEMBERED = 256


@dataclass(frozen=True)
class Policy:
    """What the pipeline's specification allows."""

    mode: str
    min_rows: int
    max_rows: int | None
    cool_down_seconds: float
    wait_seconds: float
    new_rows: int | None


@dataclass(frozen=True)
class Trigger:
    """A wish for a training. ``since`` is the event time from which rows count; None counts all."""

    id: str
    kind: str
    asked_at: datetime
    since: datetime | None = None
    force: bool = False
    newest: int | None = None
    reason: str = ""
    correlation: str | None = None


@dataclass(frozen=True)
class State:
    """What is known of one pipeline."""

    running: str | None = None
    """Id of the trigger that runs."""
    running_since: datetime | None = None
    finished_at: datetime | None = None
    trained: int = 0
    queued: Trigger | None = None
    dataset: str | None = None
    """Version of the newest dataset."""
    uploaded_rows: int = 0
    """Rows from outside since the last training began."""
    handled: tuple[str, ...] = field(default=())
    """Ids of the last triggers and datasets, so that a redelivered one changes nothing."""


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


def remember(state: State, id_: str) -> State:
    """The state that has seen this id."""
    return replace(state, handled=(*state.handled, id_)[-_REMEMBERED:])


def ask(state: State, trigger: Trigger, policy: Policy, rows: int, now: datetime) -> tuple[State, Decision]:
    """A trigger has arrived; ``rows`` are the rows it could train on."""
    state = remember(state, trigger.id)
    if policy.mode != "auto" and trigger.kind not in ("operator", "first_data"):
        why = f"the pipeline's retrain mode is {policy.mode!r}: a person may run `tidemill train`"
        return state, Refusal(trigger, "mode", why, queued=False)
    if state.queued is not None:
        # Merged: the earliest change noticed decides from where rows count; a person's force is kept.
        merged = replace(
            state.queued, force=state.queued.force or trigger.force, since=_earlier(state.queued.since, trigger.since)
        )
        state = replace(state, queued=merged)
        kept = f"merged into the trigger {merged.id} that waits already"
        state, decision = advance(state, policy, rows, now)
        return state, decision or Refusal(trigger, "coalesced", kept, queued=True)
    state = replace(state, queued=trigger)
    new, decision = advance(state, policy, rows, now)
    return new, decision or _why_waiting(state, trigger, policy, rows, now)


def advance(state: State, policy: Policy, rows: int, now: datetime) -> tuple[State, Decision]:
    """Serve the queued trigger if its time has come; drop it if it has waited too long."""
    trigger = state.queued
    if trigger is None:
        return state, None
    if now - trigger.asked_at > timedelta(seconds=policy.wait_seconds):
        why = f"too few rows for {policy.wait_seconds:.0f} s"
        return replace(state, queued=None), Refusal(trigger, "expired", why, queued=False)
    if _why_waiting(state, trigger, policy, rows, now) is not None:
        return state, None
    newest = trigger.newest if trigger.newest is not None else policy.max_rows if trigger.since else None
    started = replace(state, queued=None, running=trigger.id, running_since=now, uploaded_rows=0)
    return started, Start(trigger, newest)


def finish(state: State, run: str, now: datetime, *, succeeded: bool) -> State:
    """The training of trigger ``run`` has ended; a repetition changes nothing."""
    if state.running != run:
        return state
    return replace(
        state, running=None, running_since=None, finished_at=now, trained=state.trained + (1 if succeeded else 0)
    )


def _earlier(a: datetime | None, b: datetime | None) -> datetime | None:
    return None if a is None or b is None else min(a, b)


def _why_waiting(state: State, trigger: Trigger, policy: Policy, rows: int, now: datetime) -> Refusal | None:
    if state.dataset is None:
        return Refusal(trigger, "no_dataset", "there is no dataset yet; served when there is one", queued=True)
    if state.running is not None:
        return Refusal(trigger, "in_flight", "a training is running; served after it", queued=True)
    if state.finished_at is not None and not trigger.force:
        free = state.finished_at + timedelta(seconds=policy.cool_down_seconds)
        if now < free:
            return Refusal(trigger, "cool_down", f"cooling down until {free:%H:%M:%S}", queued=True, not_before=free)
    if trigger.since is not None and rows < policy.min_rows:
        why = f"{rows} of {policy.min_rows} rows since {trigger.since:%Y-%m-%d %H:%M} are here"
        return Refusal(trigger, "waiting_for_rows", why, queued=True)
    return None
