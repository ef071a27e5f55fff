"""The governor: which triggers become trainings, when, and on which rows.

Single flight (one training a pipeline), cool-down after each, coalescing with a trailing edge (what comes while one
runs is merged into one trigger that is served afterwards), patience (a trigger waits until enough rows have arrived
since the change was noticed), persistence (a change whose training failed for its rows, or whose model was
rejected, is tried again once twice as many rows are there), settling (a change that was answered with few rows,
as it should be, is answered once more when ``settle_rows`` of them are there) and the bounds of ``limits``.

Pure: state and facts go in, the new state and a decision come out. Two triggers can wait: a person's request
(``asked``), which is served first and takes the rows the person named, and the automatic one (``queued``). They are
not merged, because a person's training on all rows would then swallow a drift that must be answered with new rows.
"""

import math
from dataclasses import replace
from datetime import datetime, timedelta

from tidemill_training.domain import limits
from tidemill_training.domain.state import Decision, Facts, Kind, Policy, Refusal, Run, Start, State, Trigger

_REMEMBERED = 256
_REJECTED = 8
_MORE_ROWS = 2
"""Times the rows of the attempt before: each costs a training, and with fewer the next model is hardly another one."""
_WORTH_SAYING = frozenset({"suggested", "budget", "breaker_open"})
"""Reasons that are published even for a trigger that has said before why it waits: time alone does not remove them."""
_RANK: dict[Kind, int] = {"first_data": 0, "schedule": 1, "new_data": 2, "performance": 3, "drift": 4, "operator": 5}


def survived(state: State) -> State:
    """A state as it was copied before Redis was lost, and its streams with it: nobody works on what was granted, so
    its trigger waits again, as the same training. What came since meets it as if it came now."""
    run = state.running
    if run is None:
        return state
    granted, queued, state = run.trigger, state.queued, replace(state, running=None)
    if granted.kind == "operator":
        return replace(state, asked=state.asked or granted)
    if granted.over or (queued and _outdated(granted, queued)):
        return _unsettled(state, granted)
    if queued is None or _outdated(queued, granted):
        return replace(_unsettled(state, queued), queued=granted)
    return replace(state, queued=_merged(granted, queued))


def remember(state: State, id_: str) -> State:
    """The state that has seen this id."""
    if id_ in state.handled:
        return state
    return replace(state, handled=(*state.handled, id_)[-_REMEMBERED:])


def admit(state: State, trigger: Trigger, policy: Policy, champion: str | None) -> tuple[State, Refusal | None]:
    """A trigger arrives: refused for good, merged with the one that waits, or made to wait (for ``decide``)."""
    state = remember(state, trigger.id)
    refused = _refused(trigger, policy, champion)
    if refused:
        return state, refused
    state = replace(state, gradual=state.gradual or trigger.gradual)
    if trigger.kind == "operator" and state.queued and _held(state, state.queued, policy) and not trigger.names_rows:
        granted = replace(
            state.queued, granted=True, force=trigger.force, causes=(*state.queued.causes, trigger.id)[-16:]
        )
        why = f"grants the {granted.kind} trigger {granted.id} that waited for a person"
        return replace(state, queued=granted), Refusal(trigger, "coalesced", why, queued=True)
    if trigger.kind == "operator":
        merged = _joined(state.asked, trigger) if state.asked else trigger
        new = replace(state, asked=merged)
    else:
        replaced = state.queued if state.queued and _outdated(state.queued, trigger) else None
        # A new alarm begins its own story: rows from before it must not settle the old one.
        merged = _merged(state.queued, trigger) if state.queued and not replaced else trigger
        new = replace(state, queued=merged)
        if replaced:
            new = _unsettled(new, replaced)
            return new, Refusal(replaced, "stale", f"the newer trigger {trigger.id} takes its place", queued=False)
    if merged.id == trigger.id:
        return new, None
    why = f"merged into the {merged.kind} trigger {merged.id} that waits already"
    return new, Refusal(trigger, "coalesced", why, queued=True)


def note_dataset(state: State, id_: str, uploaded_rows: int) -> State:
    """New rows are there, ``uploaded_rows`` of them from outside."""
    return replace(remember(state, id_), uploaded_rows=state.uploaded_rows + uploaded_rows)


def data_trigger(state: State, policy: Policy, champion: str | None) -> Kind | None:
    """What new rows ask for by themselves: one training by their number, or, while there is no champion and none on
    its way, the first one."""
    if policy.new_rows and state.uploaded_rows >= policy.new_rows and (champion or state.running or state.last):
        return "new_data"
    on_its_way = state.running or state.queued or (state.last and state.last.model)
    return None if champion or on_its_way else "first_data"


def settle(state: State, policy: Policy, facts: Facts, now: datetime) -> tuple[State, tuple[Start | Refusal, ...]]:
    """Decide until nothing is left to decide; triggers say why they wait when they begin to, and when a bound is
    the reason from now on."""
    said: list[Start | Refusal] = []
    state = limits.tripped(state, policy, now)
    while True:
        state, decision = decide(state, policy, facts, now)
        if decision is None:
            break
        said.append(decision)
    state, waits = _told(state, policy, facts, now)
    return state, (*said, *waits)


def _told(state: State, policy: Policy, facts: Facts, now: datetime) -> tuple[State, list[Refusal]]:
    said = []
    for trigger in (state.asked, state.queued):
        waits = why_waiting(state, trigger, policy, facts, now) if trigger else None
        if trigger is None or waits is None or waits.reason == trigger.told:
            continue
        if trigger.told is None or waits.reason in _WORTH_SAYING:
            said.append(waits)
            told = replace(trigger, told=waits.reason)
            state = replace(state, asked=told) if trigger is state.asked else replace(state, queued=told)
    return state, said


def decide(state: State, policy: Policy, facts: Facts, now: datetime) -> tuple[State, Decision]:
    """Serve a waiting trigger whose time has come, or drop one whose time is over. Call until it decides nothing."""
    queued = state.queued
    if queued:
        obsolete = _obsolete(state, queued, policy, facts, now)
        if obsolete:
            return _calmed(replace(state, queued=None)), obsolete
    for trigger in (state.asked, queued):
        if trigger and why_waiting(state, trigger, policy, facts, now) is None:
            newest = trigger.newest or (policy.max_rows if trigger.since else None)
            started = _without(replace(state, uploaded_rows=0), trigger)
            run = Run(trigger.run, trigger, now, facts.dataset or "", facts.rows)
            return replace(started, running=run), Start(trigger, newest)
    return state, None


def why_waiting(state: State, trigger: Trigger, policy: Policy, facts: Facts, now: datetime) -> Refusal | None:
    """The first reason for which a trigger cannot be served yet."""
    if facts.dataset is None:
        return Refusal(trigger, "no_dataset", "there is no dataset yet; served when there is one", queued=True)
    if state.running is not None:
        return Refusal(trigger, "in_flight", f"training {state.running.id} runs; served after it", queued=True)
    bound = limits.bound(state, trigger, policy, now)
    if bound:
        return bound
    needed = trigger.min_rows or policy.min_rows
    # A person who names rows gets a training on them, or its failure, at once.
    if trigger.kind != "operator" and trigger.since is not None and facts.rows < needed:
        why = f"{facts.rows} of {needed} rows since {trigger.since.isoformat()} are here"
        return Refusal(trigger, "waiting_for_rows", why, queued=True)
    return None


def begin(state: State, run: Run) -> State:
    """A worker takes up ``run``: one more attempt. A run the state does not know (Redis was lost, a dead letter was
    replayed) takes the place if it is free; compare ``running.id`` to see who has it."""
    current = state.running or run
    if current.id != run.id:
        return state
    return replace(state, running=replace(current, attempts=current.attempts + 1))


def finish(
    state: State,
    run: str,
    now: datetime,
    *,
    model: str | None,
    rows_failed: bool = False,
    settle_rows: int = 0,
    cpu_seconds: float | None = None,
) -> State:
    """The training of trigger ``run`` has ended with a model, or without one; a repetition changes nothing.

    ``rows_failed``: its rows were at fault, so more of them may help. ``settle_rows``: how many rows since the change
    call for one more training; 0 for none. ``cpu_seconds``: what it cost; None where nobody could measure it.
    """
    if state.running is None or state.running.id != run:
        return state
    ended = replace(state.running, model=model)
    state = limits.charged(replace(state, running=None, last=ended, finished_at=now), ended, now, cpu_seconds)
    if model is None:
        state = limits.refused(state, ended)
    if rows_failed:
        return _again(state, ended)
    if model and model in state.rejected:
        return reject(state, model)
    return _settling(state, ended, settle_rows, now) if model else state


def _settling(state: State, run: Run, rows: int, now: datetime) -> State:
    """With a trigger that waits for ``rows`` since the change that ``run`` answered with fewer."""
    answered = run.trigger
    done = answered.over or (answered.settling and (answered.newest is not None or not state.gradual))
    if answered.since is None or answered.kind == "operator" or done or state.queued:
        return state
    newest = None
    if rows < _MORE_ROWS * run.rows:
        if not (state.gradual and rows):
            return state
        # Rows since a gradual change was noticed are a mixture of what was and what is: the last answer is settled
        # with as many rows that came after it.
        newest, rows, state = rows, run.rows + rows, replace(state, gradual=False)
    again = replace(answered, settling=True, model=None, min_rows=rows, attempt=answered.attempt + 1, asked_at=now)
    again = replace(again, granted=False, told=None, newest=newest)
    return replace(state, queued=replace(again, reason=f"settling after {answered.reason}"))


def _unsettled(state: State, dropped: Trigger | None) -> State:
    """A gradual change is still to be settled when the training that was to do it is dropped."""
    was = dropped is not None and dropped.settling and dropped.newest is not None
    return replace(state, gradual=True) if was else state


def _calmed(state: State) -> State:
    """No change goes on any more where an alarm has ended, unless one that is being answered or waits tells of one."""
    triggers = (state.running.trigger if state.running else None, state.queued)
    alarmed = any(t.about is not None and not t.over for t in triggers if t)
    return state if alarmed else replace(state, gradual=False)


def reject(state: State, model: str) -> State:
    """A model cannot replace the champion: the change it answered still stands. Known before the training's own end
    is, when the two events overtake each other."""
    if state.last is None or state.last.model != model:
        return replace(state, rejected=(*state.rejected, model)[-_REJECTED:])
    rejected = replace(state.last, model=None, refused=model)
    return _again(limits.refused(replace(state, last=rejected), rejected), rejected)


def promoted(state: State, model: str, now: datetime, settle_rows: int) -> State:
    """A model is champion. One that had been refused for want of rows to show its gain has shown it meanwhile: the
    second attempt at its change is not needed any more."""
    state = limits.accepted(state)
    last = state.last
    if last is None or last.refused != model:
        return state
    last = replace(last, model=model, refused=None)
    queued = state.queued
    if queued and queued.id == last.trigger.id and queued.attempt == last.trigger.attempt + 1:
        state = replace(state, queued=None)
    return _settling(replace(state, last=last), last, settle_rows, now)


def resolved(state: State, about: str, model: str, at: datetime | None = None) -> tuple[State, Refusal | None]:
    """What was complained ``about`` has passed, at event time ``at``, without a new model: ``model`` is as good as
    before. What still waits to answer it is dropped, and what was trained for it is not tried again: rows since the
    alarm are of a world, or of labels, that is no more. Refusals on the way say nothing against the next candidate.
    An alarm that was noticed later stands: the two may arrive in any order."""

    def relieved(run: Run | None) -> Run | None:
        return replace(run, trigger=_relieved(run.trigger, about, model, at)) if run else None

    running, last, queued = relieved(state.running), relieved(state.last), state.queued
    if (running, last) != (state.running, state.last):
        state = _calmed(replace(state, running=running, last=last, refusals=0))
    if queued is None:
        return state, None
    left = _relieved(queued, about, model, at)
    if not left.over:
        return replace(state, queued=left), None
    why = f"the {about} alarm is over: {model} is as good as before it"
    return _calmed(replace(state, queued=None, refusals=0)), Refusal(queued, "resolved", why, queued=False)


def _relieved(trigger: Trigger, about: str, model: str, at: datetime | None) -> Trigger:
    """Without a complaint; ``over`` when it was the last one."""
    complaints = (trigger.about, *trigger.also)
    if trigger.settling or trigger.granted or trigger.model != model or about not in complaints:
        return trigger
    if at is not None and trigger.since is not None and trigger.since > at:
        return trigger
    left = tuple(c for c in complaints if c is not None and c != about)
    if not left:
        return replace(trigger, over=True)
    return replace(trigger, kind="performance" if left[0] == "performance" else "drift", about=left[0], also=left[1:])


def recovered(state: State, model: str, champion: str | None) -> tuple[State, Refusal | None]:
    """The score is back with ``model``. What was complained about the score of another one is over, as long as
    ``model`` is the champion: either the other was withdrawn, or an answer to an earlier complaint came first. A
    settling training stays due, but a score that falls again is not what it answers."""
    if model == champion:
        state = _reached(state)
    triggers = (state.queued, state.running.trigger if state.running else None)
    former = next((t.model for t in triggers if t and t.model not in (None, model)), None)
    if former is None or model != champion:
        return state, None
    return resolved(state, "performance", former)


def _reached(state: State) -> State:
    running, queued = state.running, state.queued
    if running and running.trigger.settling:
        running = replace(running, trigger=replace(running.trigger, recovered=True))
    if queued and queued.settling:
        queued = replace(queued, recovered=True)
    return replace(state, running=running, queued=queued)


def withdrawn(state: State) -> State:
    """A champion proved worse than the one before it, which is back."""
    return replace(state, refusals=state.refusals + 1)


def scheduled(state: State, policy: Policy, champion: str | None, now: datetime) -> tuple[State, datetime | None]:
    """When the last training (or the first look) lies ``every_seconds`` back, that time: it names the new trigger."""
    if policy.every_seconds is None or champion is None or state.running or state.queued:
        return state, None
    last = max((t for t in (state.finished_at, state.scheduled_at) if t is not None), default=None)
    if last is None:
        return replace(state, scheduled_at=now), None
    if now - last < timedelta(seconds=policy.every_seconds):
        return state, None
    return replace(state, scheduled_at=now), last


def _again(state: State, run: Run) -> State:
    trigger = run.trigger
    if trigger.over:
        settles = state.queued and state.queued.settling and state.queued.id == trigger.id
        return _calmed(replace(state, queued=None)) if settles else state
    if trigger.since is None or trigger.kind == "operator" or trigger.settling:
        return state
    needed = math.ceil(_MORE_ROWS * max(run.rows, trigger.min_rows or 0, 1))
    retry = replace(trigger, min_rows=needed, attempt=trigger.attempt + 1, granted=False, told=None)
    if state.queued is None or state.queued.settling:
        return replace(_unsettled(state, state.queued), queued=retry)
    if state.queued.since is None:  # more new rows: they must not hide the change
        return replace(state, queued=replace(_merged(state.queued, retry), min_rows=needed))
    return state  # a newer alarm knows better


def _refused(trigger: Trigger, policy: Policy, champion: str | None) -> Refusal | None:
    if trigger.kind in ("operator", "first_data"):
        return None
    if policy.mode == "observe":
        why = f"the pipeline's retrain mode is {policy.mode!r}: a person may request the training"
        return Refusal(trigger, "mode", why, queued=False)
    if trigger.about and trigger.about not in policy.triggers:
        why = f"{trigger.about} drift alone does not retrain this pipeline (retrain.triggers)"
        return Refusal(trigger, "policy", why, queued=False)
    if trigger.model and champion and trigger.model != champion:
        why = f"it is about model {trigger.model}; the champion is {champion}"
        return Refusal(trigger, "stale", why, queued=False)
    return None


def _obsolete(state: State, trigger: Trigger, policy: Policy, facts: Facts, now: datetime) -> Refusal | None:
    if trigger.kind == "first_data" and facts.champion:
        return Refusal(trigger, "stale", f"model {facts.champion} is champion by now", queued=False)
    last = state.last
    answered = last and last.model and last.model == facts.champion and last.started_at >= trigger.asked_at
    if answered and trigger.model and trigger.model != facts.champion:
        why = f"model {facts.champion}, trained after this was asked for, is champion by now"
        return Refusal(trigger, "stale", why, queued=False)
    waiting = why_waiting(state, trigger, policy, facts, now)
    overdue = now - trigger.asked_at > timedelta(seconds=policy.wait_seconds)
    if overdue and waiting and waiting.reason in ("waiting_for_rows", "no_dataset", "suggested"):
        return Refusal(trigger, "expired", f"after {policy.wait_seconds:.0f} s: {waiting.message}", queued=False)
    return None


def _outdated(waiting: Trigger, new: Trigger) -> bool:
    """Whether a new alarm begins a story of its own: what waits is another look at an older change.

    Measured on a change that takes 4 000 rows: with the older one kept, whose rows it must wait for twice, the score
    over 16 000 rows was 0.864 and 0.683 (two seeds), with the newer one 0.903 and 0.894.
    """
    if waiting.settling:
        # That the score is still below its best is what settling is about to answer.
        return new.kind == "drift" or (new.kind == "performance" and waiting.recovered)
    if not waiting.attempt or waiting.since is None or new.since is None:
        return False
    if new.began is not None and new.began <= waiting.since and not (new.gradual or waiting.gradual):
        return False  # another detector saw the same change, later
    return new.since > waiting.since


def _merged(waiting: Trigger, new: Trigger) -> Trigger:
    """The stronger kind speaks; rows count from the earliest change noticed; more new rows never hide a change."""
    strong = new if _RANK[new.kind] > _RANK[waiting.kind] else waiting
    changes = [t.since for t in (waiting, new) if t.since is not None]
    about = dict.fromkeys(a for t in (waiting, new) for a in (t.about, *t.also) if a not in (None, strong.about))
    return replace(
        strong,
        also=tuple(a for a in about if a),
        id=waiting.id,
        attempt=waiting.attempt,
        correlation=waiting.correlation,
        asked_at=waiting.asked_at,
        since=min(changes, default=None),
        min_rows=waiting.min_rows,
        causes=(*waiting.causes, new.id)[-16:],
    )


def _joined(waiting: Trigger, new: Trigger) -> Trigger:
    """Of two requests by people the later one names the rows; neither's urgency is lost."""
    causes = (*waiting.causes, new.id)[-16:]
    merged = replace(waiting, force=waiting.force or new.force, since=new.since, newest=new.newest, causes=causes)
    return replace(merged, reason=new.reason or waiting.reason)


def _held(state: State, trigger: Trigger, policy: Policy) -> bool:
    """Whether a trigger waits for a person's yes."""
    return trigger.automatic and (policy.mode == "suggest" or state.breaker_since is not None)


def _without(state: State, trigger: Trigger) -> State:
    return replace(state, asked=None) if trigger is state.asked else replace(state, queued=None)
