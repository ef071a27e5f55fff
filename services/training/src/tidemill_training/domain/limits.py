"""What holds trainings back whoever is drifting: a cool-down, a daily budget, a person's word, a circuit breaker."""

from dataclasses import replace
from datetime import datetime, timedelta

from tidemill_training.domain.state import DAY_SECONDS, Policy, Refusal, Run, Spent, State, Trigger

_DAY = timedelta(seconds=DAY_SECONDS)
_REMEMBERED = 1_024
_DOUBLINGS = 16
_ALARMS = 2


def bound(state: State, trigger: Trigger, policy: Policy, now: datetime) -> Refusal | None:
    """The first bound that keeps a trigger waiting. A person's word goes past all but the cool-down, and with
    ``force`` past that."""
    if trigger.automatic:
        if state.breaker_since is not None:
            why = f"{state.refusals} candidates in a row were refused: `tidemill resume` or `tidemill train` goes on"
            return Refusal(trigger, "breaker_open", why, queued=True)
        if policy.mode == "suggest":
            why = f"suggested: {trigger.reason or trigger.kind}; `tidemill train` grants it"
            return Refusal(trigger, "suggested", why, queued=True)
        spent = _budget(state, trigger, policy, now)
        if spent:
            return spent
    if state.finished_at is not None and not trigger.force:
        free = state.finished_at + timedelta(seconds=cool_down_seconds(state, policy))
        if now < free:
            return Refusal(trigger, "cool_down", f"cooling down until {free.isoformat()}", queued=True, not_before=free)
    return None


def cool_down_seconds(state: State, policy: Policy) -> float:
    """Twice as long after each refused candidate, a day at most."""
    doubled: float = policy.cool_down_seconds * 2.0 ** min(state.refusals, _DOUBLINGS)
    return min(doubled, max(DAY_SECONDS, policy.cool_down_seconds))


def _budget(state: State, trigger: Trigger, policy: Policy, now: datetime) -> Refusal | None:
    recent = [s for s in state.spent if now - s.at < _DAY]
    if not recent:
        return None
    cpu = sum(s.cpu_seconds for s in recent)
    why = None
    if policy.trainings_a_day is not None and len(recent) >= policy.trainings_a_day:
        why = f"{len(recent)} trainings within a day, {policy.trainings_a_day} are allowed (retrain.trainings_a_day)"
    elif policy.cpu_seconds_a_day is not None and cpu >= policy.cpu_seconds_a_day:
        allowed = f"{policy.cpu_seconds_a_day:.0f} are allowed (retrain.cpu_seconds_a_day)"
        why = f"{cpu:.0f} CPU seconds within a day, {allowed}"
    return Refusal(trigger, "budget", why, queued=True, not_before=recent[0].at + _DAY) if why else None


def charged(state: State, run: Run, now: datetime, cpu_seconds: float | None) -> State:
    """``run`` has ended now. What nobody measured (its process is gone) counts as the time that passed."""
    cost = cpu_seconds if cpu_seconds is not None else max(0.0, (now - run.started_at).total_seconds())
    recent = tuple(s for s in state.spent if now - s.at < _DAY)
    return replace(state, spent=(*recent, Spent(now, cost))[-_REMEMBERED:])


def refused(state: State, run: Run) -> State:
    """Nothing came of ``run``. One that settled or that a person asked for says nothing against the next."""
    if run.trigger.settling or run.trigger.kind == "operator":
        return state
    return replace(state, refusals=state.refusals + 1)


def accepted(state: State) -> State:
    """A candidate became champion."""
    return replace(state, refusals=0, breaker_since=None)


def resumed(state: State) -> State:
    """A person closes the breaker."""
    return accepted(state)


def tripped(state: State, policy: Policy, now: datetime) -> State:
    """With the breaker open once too many answers to one alarm were refused, or twice as many in a row to several: a
    gradual change raises one alarm after another, and each deserves its answer."""
    bound = policy.breaker_refusals
    attempts = state.queued.attempt if state.queued and not state.queued.settling else 0
    many = bound and (min(attempts, state.refusals) >= bound or state.refusals >= _ALARMS * bound)
    return replace(state, breaker_since=now) if many and state.breaker_since is None else state
