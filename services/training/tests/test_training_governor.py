from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tidemill_training.domain import limits
from tidemill_training.domain.governor import (
    admit,
    begin,
    data_trigger,
    decide,
    finish,
    note_dataset,
    promoted,
    recovered,
    reject,
    remember,
    resolved,
    scheduled,
    settle,
    survived,
    withdrawn,
)
from tidemill_training.domain.state import Facts, Kind, Policy, Refusal, Run, Start, State, Trigger

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(min_rows=100, cool_down_seconds=60, wait_seconds=1000)
FACTS = Facts(dataset="d1", champion="m1", rows=1000)


def trigger(id_: str = "t", kind: Kind = "drift", **facts: Any) -> Trigger:
    about: dict[str, Any] = {"about": "concept", "model": "m1", "since": NOW} if kind == "drift" else {}
    return Trigger(id_, kind, NOW, **(about | facts))


def arrive(
    state: State, asked: Trigger, *, policy: Policy = POLICY, facts: Facts = FACTS, now: datetime = NOW
) -> tuple[State, tuple[Start | Refusal, ...]]:
    changed, refusal = admit(state, asked, policy, facts.champion)
    new, said = settle(changed, policy, facts, now)
    return new, ((refusal, *said) if refusal else said)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def reasons(said: tuple[Start | Refusal, ...]) -> list[str]:
    return ["start" if isinstance(d, Start) else d.reason for d in said]


def trained(kind: Kind = "drift", model: str = "m2", champion: str | None = "m1") -> State:
    state, said = arrive(State(), trigger(kind=kind), facts=replace(FACTS, champion=champion))
    assert reasons(said) == ["start"] and state.running
    return finish(state, state.running.id, later(10), model=model)


def test_one_at_a_time_then_the_trailing_edge_after_the_cool_down() -> None:
    state, said = arrive(State(), trigger("a"))
    assert reasons(said) == ["start"]
    state, said = arrive(state, trigger("b", since=later(5)), now=later(5))
    assert reasons(said) == ["in_flight"]
    state, said = arrive(state, trigger("c", since=later(6)), now=later(6))
    assert reasons(said) == ["coalesced"]
    assert state.running
    ended = finish(state, state.running.id, later(10), model="m2")
    assert decide(ended, POLICY, FACTS, later(69)) == (ended, None)
    started, decision = decide(ended, POLICY, FACTS, later(71))
    assert isinstance(decision, Start)
    assert decision.trigger.since == later(5)
    assert decision.trigger.causes == ("c",)
    assert started.running and not started.waiting


def test_a_cool_down_names_its_end_and_a_person_may_skip_it() -> None:
    state, said = arrive(trained(), trigger("b"), now=later(20))
    assert isinstance(said[0], Refusal)
    assert (said[0].reason, said[0].not_before, said[0].queued) == ("cool_down", later(70), True)
    _, said = arrive(state, trigger("p", "operator", force=True), now=later(21))
    assert reasons(said) == ["start"]


def test_a_person_does_not_swallow_a_drift_that_waits_for_rows() -> None:
    few = replace(FACTS, rows=5)
    state, said = arrive(State(), trigger("d"), facts=few)
    assert reasons(said) == ["waiting_for_rows"]
    state, said = arrive(state, trigger("p", "operator"), facts=few)
    assert isinstance(said[0], Start)
    assert said[0].trigger.since is None
    assert state.queued and state.queued.id == "d"


def test_a_change_answered_by_a_later_training_is_stale() -> None:
    few = replace(FACTS, rows=5)
    state, _ = arrive(State(), trigger("d"), facts=few)
    state, _ = arrive(state, trigger("p", "operator"), facts=few, now=later(1))
    assert state.running
    state = finish(state, state.running.id, later(2), model="m2")
    # Not promoted: the change still stands.
    assert decide(state, POLICY, few, later(100))[1] is None
    _, decision = decide(state, POLICY, replace(few, champion="m2"), later(100))
    assert isinstance(decision, Refusal) and decision.reason == "stale"


def test_an_alarm_during_a_training_that_began_before_it_survives_its_promotion() -> None:
    state, _ = arrive(State(), trigger("n", "new_data"))
    state, said = arrive(state, replace(trigger("d"), asked_at=later(5)), now=later(5))
    assert reasons(said) == ["in_flight"]
    assert state.running
    state = finish(state, state.running.id, later(10), model="m2")
    _, decision = decide(state, POLICY, replace(FACTS, champion="m2"), later(71))
    assert isinstance(decision, Start)


def test_refusals_for_good() -> None:
    assert reasons(arrive(State(), trigger(), policy=replace(POLICY, mode="observe"))[1]) == ["mode"]
    for mode in ("observe", "suggest"):
        assert reasons(arrive(State(), trigger(kind="operator"), policy=replace(POLICY, mode=mode))[1]) == ["start"]
    assert reasons(arrive(State(), trigger(about="data"))[1]) == ["policy"]
    assert reasons(arrive(State(), trigger(model="old"))[1]) == ["stale"]


def test_patience_ends_for_want_of_rows_only() -> None:
    few = replace(FACTS, rows=99)
    state, _ = arrive(State(), trigger(), facts=few)
    assert decide(state, POLICY, few, later(1000))[1] is None
    dropped, decision = decide(state, POLICY, few, later(1001))
    assert isinstance(decision, Refusal) and decision.reason == "expired" and not dropped.waiting
    assert isinstance(decide(state, POLICY, FACTS, later(5000))[1], Start)


def test_without_a_dataset_everything_waits() -> None:
    state, said = arrive(State(), trigger("p", "operator"), facts=Facts())
    assert reasons(said) == ["no_dataset"]
    assert isinstance(decide(state, POLICY, FACTS, NOW)[1], Start)


def test_what_new_rows_ask_for() -> None:
    policy = replace(POLICY, new_rows=100)
    assert data_trigger(State(), policy, None) == "first_data"
    assert data_trigger(State(), policy, "m1") is None
    assert data_trigger(note_dataset(State(), "e", 100), policy, "m1") == "new_data"
    assert data_trigger(note_dataset(State(), "e", 100), POLICY, "m1") is None
    # A first model that waits for its promotion is not trained again; a rejected one is.
    made = trained("first_data", champion=None)
    assert data_trigger(made, POLICY, None) is None
    assert data_trigger(reject(made, "m2"), POLICY, None) == "first_data"


def test_more_rows_are_waited_for_after_rows_failed_or_a_model_was_rejected() -> None:
    state, _ = arrive(State(), trigger(), facts=replace(FACTS, rows=120))
    assert state.running
    first = state.running.id
    for again in (
        finish(state, first, later(1), model=None, rows_failed=True),
        reject(finish(state, first, later(1), model="m2"), "m2"),
        finish(reject(state, "m2"), first, later(1), model="m2"),
    ):
        assert again.queued and again.queued.min_rows == 240
        assert decide(again, POLICY, replace(FACTS, rows=179), later(200))[1] is None
        assert decide(again, POLICY, replace(FACTS, rows=240), later(100))[1] is None  # the cool-down has doubled
        second, decision = decide(again, POLICY, replace(FACTS, rows=240), later(122))
        assert isinstance(decision, Start)
        assert second.running and second.running.id != first
    assert not finish(state, first, later(1), model="m2").waiting


def test_a_change_answered_with_few_rows_is_answered_once_more_with_more_of_them() -> None:
    state, _ = arrive(State(), trigger("a"), facts=replace(FACTS, rows=150))
    assert state.running
    state = finish(state, state.running.id, later(10), model="m2", settle_rows=500)
    facts = replace(FACTS, champion="m2")
    assert decide(state, POLICY, replace(facts, rows=499), later(100)) == (state, None)
    settled, decision = decide(state, POLICY, replace(facts, rows=500), later(100))
    assert isinstance(decision, Start) and decision.trigger.since == NOW and settled.running
    settled = finish(settled, settled.running.id, later(110), model="m3", settle_rows=500)
    assert settled.queued is None  # once
    assert reject(settled, "m3").queued is None  # a champion that is as good stays, and that is the end of it
    rejected = reject(state, "m2")  # the first answer was none: the change is tried again instead
    assert rejected.queued and not rejected.queued.settling
    alarmed, _ = arrive(state, trigger("b", model="m2", since=later(50)), facts=facts, now=later(60))
    assert alarmed.queued and alarmed.queued.id == "b" and alarmed.queued.since == later(50)


def rejected_once(state: State, model: str = "m2") -> State:
    assert state.running
    return reject(finish(state, state.running.id, later(10), model=model), model)


def test_an_alarm_that_passes_by_itself_is_not_answered_any_more() -> None:
    few = replace(FACTS, rows=5)
    waiting, _ = arrive(State(), trigger("d"), facts=few)
    over, refusal = resolved(waiting, "concept", "m1")
    assert refusal and (refusal.reason, refusal.queued) == ("resolved", False) and not over.waiting
    assert resolved(waiting, "concept", "m0") == (waiting, None)  # about another model
    assert resolved(waiting, "data", "m1") == (waiting, None)
    assert resolved(waiting, "concept", "m1", NOW - timedelta(seconds=1)) == (waiting, None)  # an earlier alarm's end
    again = rejected_once(arrive(State(), trigger("d"), facts=replace(FACTS, rows=120))[0])
    assert again.queued and again.refusals == 1
    over, refusal = resolved(again, "concept", "m1")
    assert refusal and not over.waiting and over.refusals == 0


def test_what_was_trained_for_an_alarm_that_passed_meanwhile_is_not_tried_again() -> None:
    running, _ = arrive(State(), trigger("d"), facts=replace(FACTS, rows=120))
    over, refusal = resolved(running, "concept", "m1")
    assert refusal is None and over.running
    assert not rejected_once(over).waiting
    ended = finish(running, over.running.id, later(10), model="m2", settle_rows=500)
    assert ended.queued and ended.queued.settling
    over, _ = resolved(ended, "concept", "m1")
    assert not reject(over, "m2").waiting


def test_one_of_two_merged_complaints_may_pass_and_the_other_stays() -> None:
    few = replace(FACTS, rows=5)
    state, _ = arrive(State(), trigger("d"), facts=few)
    state, _ = arrive(state, trigger("p", "performance", about="performance", model="m1", since=later(1)), facts=few)
    left, refusal = resolved(state, "concept", "m1")
    assert refusal is None and left.queued
    assert (left.queued.kind, left.queued.about, left.queued.also) == ("performance", "performance", ())
    assert resolved(left, "performance", "m1")[1]
    left, _ = resolved(state, "performance", "m1")
    assert left.queued and (left.queued.kind, left.queued.also) == ("drift", ())


def test_a_score_that_is_back_with_another_model_ends_complaints_about_the_former_one() -> None:
    """A champion fell short and was withdrawn: m1 answers again, and nothing is left to train for."""
    few = replace(FACTS, rows=5, champion="m2")
    fallen = trigger("p", "performance", about="performance", model="m2", since=later(1))
    waiting, _ = arrive(State(), fallen, facts=few)
    over, refusal = recovered(waiting, "m1", "m1")
    assert refusal and refusal.reason == "resolved" and not over.waiting
    assert recovered(waiting, "m2", "m2") == (waiting, None)  # it is about that very model
    assert recovered(waiting, "m1", "m3") == (waiting, None)  # an old message: who knows about the champion of now?
    running, _ = arrive(State(), fallen, facts=replace(few, rows=120))
    over, refusal = recovered(running, "m1", "m1")
    assert refusal is None and over.running and not rejected_once(over, "m3").waiting
    alarmed, _ = arrive(waiting, trigger("d", model="m2", since=later(2)), facts=few)
    left, refusal = recovered(alarmed, "m1", "m1")
    assert refusal is None and left.queued and (left.queued.about, left.queued.also) == ("concept", ())


def test_a_settling_training_outlasts_the_recovery_that_its_first_answer_brought() -> None:
    state, _ = arrive(State(), trigger("a"), facts=replace(FACTS, rows=150))
    assert state.running
    settling = finish(state, state.running.id, later(10), model="m2", settle_rows=500)
    back, refusal = recovered(settling, "m2", "m2")
    assert refusal is None and back.queued and back.queued.settling and back.queued.min_rows == 500


def test_a_score_that_falls_again_after_it_was_back_is_another_change() -> None:
    state, _ = arrive(State(), trigger("a"), facts=replace(FACTS, rows=150))
    assert state.running
    state = finish(state, state.running.id, later(10), model="m2", settle_rows=500)
    state, _ = recovered(state, "m2", "m2")
    fallen = trigger("b", "performance", about="performance", model="m2", since=later(50))
    few = replace(FACTS, champion="m2", rows=20)
    waiting, said = arrive(state, fallen, facts=few, now=later(100))
    assert reasons(said) == ["stale", "waiting_for_rows"]
    assert waiting.queued and not waiting.queued.settling and waiting.queued.since == later(50)
    # The same when the second answer is being trained: what settles it further is no answer to what came later.
    begun, said = settle(state, POLICY, replace(few, rows=500), later(100))
    assert reasons(said) == ["start"]
    begun, _ = recovered(begun, "m2", "m2")
    assert begun.running and begun.running.trigger.recovered


def test_a_change_that_two_detectors_see_is_answered_once() -> None:
    facts = replace(FACTS, rows=150)
    state, _ = arrive(State(), trigger("a", "performance", about="performance", since=NOW), facts=facts)
    again = rejected_once(state, "m2")
    assert again.queued and again.queued.attempt == 1
    same, said = arrive(again, trigger("b", since=later(50), began=later(-20)), facts=facts, now=later(60))
    assert "coalesced" in reasons(said) and same.queued
    assert (same.queued.since, same.queued.attempt, same.queued.kind) == (NOW, 1, "drift")
    for other in (trigger("c", since=later(50), began=later(20)), trigger("d", since=later(50))):
        newer, said = arrive(again, other, facts=facts, now=later(60))
        assert reasons(said)[0] == "stale" and newer.queued and newer.queued.since == later(50)


def test_a_gradual_change_is_settled_with_rows_from_after_its_last_answer() -> None:
    facts = replace(FACTS, rows=400)
    abrupt, _ = arrive(State(), trigger("a"), facts=facts)
    assert abrupt.running
    assert not finish(abrupt, abrupt.running.id, later(10), model="m2", settle_rows=500).waiting
    state, _ = arrive(State(), trigger("a", gradual=True), facts=facts)
    assert state.running
    ended = finish(state, state.running.id, later(10), model="m2", settle_rows=500)
    assert ended.queued and (ended.queued.min_rows, ended.queued.newest, ended.gradual) == (900, 500, False)
    _, decision = decide(ended, POLICY, replace(facts, champion="m2", rows=900), later(100))
    assert isinstance(decision, Start) and decision.newest == 500
    few, _ = arrive(State(), trigger("a", gradual=True), facts=replace(FACTS, rows=150))
    assert few.running
    soon = finish(few, few.running.id, later(10), model="m2", settle_rows=500)
    assert soon.queued and (soon.queued.min_rows, soon.queued.newest, soon.gradual) == (500, None, True)
    again, _ = settle(soon, POLICY, replace(facts, champion="m2", rows=500), later(100))
    assert again.running
    last = finish(again, again.running.id, later(110), model="m3", settle_rows=500)
    assert last.queued and (last.queued.min_rows, last.queued.newest, last.gradual) == (1_000, 500, False)
    refused_ = reject(ended, "m2")
    assert refused_.gradual and refused_.queued and not refused_.queued.settling
    newer, _ = arrive(ended, trigger("b", model="m2", since=later(50)), facts=replace(facts, champion="m2", rows=0))
    assert newer.gradual and newer.queued and newer.queued.id == "b"


def test_a_gradual_change_is_over_with_its_alarm() -> None:
    few = replace(FACTS, rows=5)
    waiting, _ = arrive(State(), trigger("a", gradual=True), facts=few)
    running, _ = arrive(State(), trigger("a", gradual=True))
    expired, said = settle(waiting, POLICY, few, later(1001))
    assert reasons(said) == ["expired"]
    for over in (resolved(waiting, "concept", "m1")[0], resolved(running, "concept", "m1")[0], expired):
        assert not over.gradual and not over.waiting
    person, _ = arrive(waiting, trigger("p", "operator"), facts=few, now=later(1))
    assert person.running
    answered = finish(person, person.running.id, later(2), model="m2")
    stale, said = settle(answered, POLICY, replace(few, champion="m2"), later(100))
    assert reasons(said) == ["stale"] and not stale.gradual
    # The next alarm, of an abrupt change that was answered with enough rows, is not settled.
    again, _ = arrive(expired, trigger("b"), facts=replace(FACTS, rows=400), now=later(2000))
    assert again.running
    assert not finish(again, again.running.id, later(2010), model="m2", settle_rows=500).waiting


def test_a_gradual_change_outlasts_the_end_of_another_complaint() -> None:
    facts = replace(FACTS, rows=5)
    running, _ = arrive(State(), trigger("a", gradual=True))
    fallen = trigger("p", "performance", about="performance", model="m1", since=later(1))
    both, _ = arrive(running, fallen, facts=facts, now=later(1))
    assert resolved(both, "performance", "m1")[0].gradual
    ended = finish(both, "other", later(2), model=None)
    assert settle(ended, POLICY, facts, later(1100))[0].gradual  # one that waited expires, the change is still answered
    merged, _ = arrive(State(), trigger("a", gradual=True), facts=facts)
    merged, _ = arrive(merged, fallen, facts=facts)
    assert resolved(merged, "performance", "m1")[0].gradual
    alone, _ = arrive(State(), trigger("a", gradual=True), facts=facts)
    assert resolved(alone, "concept", "m0")[0].gradual


def test_new_rows_that_wait_do_not_hide_a_change_that_is_tried_again() -> None:
    state, _ = arrive(State(), trigger(), facts=replace(FACTS, rows=120))
    state, _ = arrive(state, trigger("n", "new_data"), now=later(1))
    assert state.running
    state = finish(state, state.running.id, later(2), model=None, rows_failed=True)
    assert state.queued and (state.queued.id, state.queued.kind, state.queued.min_rows) == ("n", "drift", 240)


def test_a_repeated_end_or_another_run_changes_nothing() -> None:
    state = trained()
    assert finish(state, "other", later(99), model="m3") == state
    assert remember(remember(state, "x"), "x") == remember(state, "x")


def test_attempts_are_counted_and_a_lost_state_is_taken_up_again() -> None:
    run = Run("r", trigger(), NOW, "d1")
    once = begin(State(), run)
    assert once.running and once.running.attempts == 1
    twice = begin(once, run)
    assert twice.running and twice.running.attempts == 2
    assert begin(twice, replace(run, id="other")) == twice


def refused(times: int, policy: Policy = POLICY) -> State:
    """A pipeline whose last ``times`` candidates were refused, the next attempt waiting."""
    state, _ = arrive(State(), trigger("a"), policy=policy)
    for number in range(times):
        assert state.running
        state = reject(finish(state, state.running.id, later(number), model=f"c{number}"), f"c{number}")
        state, _ = settle(state, policy, replace(FACTS, rows=4_000 * 4**number), later(number + 200_000))
    return state


def test_what_was_granted_when_redis_was_lost_is_granted_again() -> None:
    running, said = arrive(State(refusals=2), trigger("a"))
    again, said_again = settle(survived(running), POLICY, FACTS, later(30))
    assert reasons(said) == reasons(said_again) == ["start"]
    assert running.running and again.running
    assert (again.running.id, again.refusals) == (running.running.id, 2)
    asked, _ = arrive(State(), trigger("p", "operator"))
    newer = replace(survived(asked), queued=trigger("b"))
    assert newer.asked and newer.asked.id == "p"


def test_a_lost_redis_takes_no_alarm_along_that_was_being_answered_while_another_trigger_waited() -> None:
    granted, _ = arrive(State(), trigger("a"))
    assert granted.running
    for other in (trigger("n", "new_data"), trigger("s", "schedule"), trigger("b", since=later(5))):
        both, _ = arrive(granted, other, now=later(6))
        waiting = survived(both)
        assert waiting.running is None and waiting.queued
        assert (waiting.queued.run, waiting.queued.since, waiting.queued.kind) == (granted.running.id, NOW, "drift")
        assert waiting.queued.causes == (other.id,)
    fallen = trigger("p", "performance", about="performance", model="m1", since=later(5))
    waiting = survived(arrive(granted, fallen, now=later(6))[0])
    assert resolved(waiting, "performance", "m1")[0].queued  # the drift stands
    rows, _ = arrive(State(), trigger("n", "new_data"))
    waiting = survived(arrive(rows, trigger("b", since=later(5)), now=later(6))[0])
    assert waiting.queued and (waiting.queued.kind, waiting.queued.since) == ("drift", later(5))


def test_after_a_lost_redis_the_newer_alarm_takes_the_place_of_another_look_at_an_older_change() -> None:
    first, newer = trigger("a"), trigger("b", since=later(5))
    retry = replace(first, attempt=1, min_rows=200)
    for granted, queued in ((retry, newer), (newer, retry)):
        waiting = survived(State(running=Run(granted.run, granted, NOW, "d1"), queued=queued))
        assert waiting == State(queued=newer)


def test_an_alarm_that_passed_while_it_was_answered_does_not_wait_again_when_redis_is_lost() -> None:
    running, _ = arrive(State(), trigger("a"))
    over, _ = resolved(running, "concept", "m1")
    assert not survived(over).waiting


def test_the_cool_down_doubles_with_each_refused_candidate_until_one_is_accepted() -> None:
    for refusals, seconds in ((0, 60), (1, 120), (3, 480), (40, 86_400)):
        assert limits.cool_down_seconds(State(refusals=refusals), POLICY) == seconds
    state = promoted(State(refusals=3, breaker_since=NOW), "m9", NOW, 0)
    assert (state.refusals, state.breaker_since) == (0, None)
    assert withdrawn(state).refusals == 1


def test_after_refused_candidates_a_person_decides() -> None:
    policy, many = replace(POLICY, breaker_refusals=3), replace(FACTS, rows=100_000)
    state = refused(3, policy)
    assert state.refusals == 3 and state.breaker_since and state.running is None
    state, said = arrive(state, trigger("b", since=later(9)), policy=policy, facts=many, now=later(900_000))
    assert reasons(said) == ["stale", "breaker_open"]  # the newer alarm takes the place of the attempt that waits
    assert settle(state, policy, many, later(900_001)) == (state, ())  # said once
    state, said = arrive(state, trigger("c", since=later(9)), policy=policy, facts=many, now=later(900_001))
    assert reasons(said) == ["coalesced"]
    once, said = arrive(state, trigger("p", "operator"), policy=policy, facts=many, now=later(900_002))
    assert reasons(said) == ["coalesced", "start"] and once.running and once.running.trigger.since == later(9)
    again = reject(finish(once, once.running.id, later(900_003), model="m7"), "m7")
    assert reasons(settle(again, policy, many, later(1_900_000))[1]) == ["breaker_open"]  # a yes is for one attempt
    assert reasons(settle(limits.resumed(state), policy, many, later(900_002))[1]) == ["start"]


def test_several_alarms_are_given_twice_the_answers_of_one() -> None:
    policy = replace(POLICY, breaker_refusals=3)
    assert limits.tripped(State(refusals=5), policy, NOW).breaker_since is None
    assert limits.tripped(State(refusals=6), policy, NOW).breaker_since == NOW
    third = State(refusals=3, queued=replace(trigger("a"), attempt=3))
    assert limits.tripped(third, policy, NOW).breaker_since == NOW
    assert limits.tripped(replace(third, refusals=0), policy, NOW).breaker_since is None  # a person has closed it


def test_what_is_suggested_waits_for_a_person_who_grants_it_with_its_rows() -> None:
    policy = replace(POLICY, mode="suggest")
    state, said = arrive(State(), trigger("a", since=later(5)), policy=policy)
    assert reasons(said) == ["suggested"] and state.queued
    _, said = arrive(state, trigger("p", "operator", newest=50), policy=policy)
    assert [(d.trigger.newest, d.trigger.since) for d in said if isinstance(d, Start)] == [(50, None)]
    _, said = arrive(state, trigger("p", "operator"), policy=policy)
    assert [d.trigger.since for d in said if isinstance(d, Start)] == [later(5)]


def test_a_day_has_a_budget_of_trainings_and_of_processor_time() -> None:
    for policy in (replace(POLICY, trainings_a_day=2), replace(POLICY, cpu_seconds_a_day=50)):
        state = State()
        for number in range(2):
            now = later(number * 1000)
            state, said = arrive(state, trigger(f"t{number}"), policy=policy, now=now)
            assert reasons(said) == ["start"] and state.running
            state = finish(state, state.running.id, now, model="m2", cpu_seconds=25)
        state, said = arrive(state, trigger("t2"), policy=policy, now=later(2000))
        assert [(d.reason, d.not_before) for d in said if isinstance(d, Refusal)] == [("budget", later(86_400))]
        person = arrive(state, trigger("p", "operator"), policy=policy, now=later(2001))[1]
        assert "start" in reasons(person)
        assert reasons(settle(state, policy, FACTS, later(86_401))[1]) == ["start"]


def test_a_score_below_its_best_waits_for_the_settling_training_that_is_due_anyway() -> None:
    state, _ = arrive(State(), trigger("a"), facts=replace(FACTS, rows=150))
    assert state.running
    state = finish(state, state.running.id, later(10), model="m2", settle_rows=500)
    fallen = trigger("b", "performance", about="performance", model="m2", since=later(50))
    facts = replace(FACTS, champion="m2", rows=200)
    state, said = arrive(state, fallen, facts=facts, now=later(100))
    assert reasons(said)[:1] == ["coalesced"]
    assert state.queued and state.queued.settling and state.queued.min_rows == 500 and state.queued.since == NOW


def test_a_schedule_counts_from_the_last_training_or_the_first_look() -> None:
    policy = replace(POLICY, every_seconds=1000)
    assert scheduled(State(), policy, None, NOW) == (State(), None)
    state, due = scheduled(State(), policy, "m1", NOW)
    assert due is None and scheduled(state, policy, "m1", later(999))[1] is None
    assert scheduled(state, policy, "m1", later(1000))[1] == NOW
    ended = replace(state, finished_at=later(500))
    assert scheduled(ended, policy, "m1", later(1499))[1] is None
    assert scheduled(ended, policy, "m1", later(1500)) == (replace(ended, scheduled_at=later(1500)), later(500))


def test_a_refused_model_that_proves_better_later_ends_the_attempts_at_its_change() -> None:
    state, _ = arrive(State(), trigger("a"), facts=replace(FACTS, rows=120))
    assert state.running
    state = reject(finish(state, state.running.id, later(1), model="m2"), "m2")
    assert state.queued and state.refusals == 1
    state = promoted(state, "m2", later(2), settle_rows=0)
    assert (state.queued, state.refusals) == (None, 0)


def test_a_thousand_alarms_while_one_trains_make_one_that_waits() -> None:
    state, said = arrive(State(), trigger("a0"))
    for number in range(1, 1001):
        state, said = arrive(state, trigger(f"a{number}", since=later(number)), now=later(number * 0.06))
        assert reasons(said) == (["in_flight"] if number == 1 else ["coalesced"])
    assert state.running and state.queued and len(state.queued.causes) <= 16


KINDS = st.sampled_from(["new_data", "drift", "performance", "operator", "first_data"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), KINDS, st.booleans(), st.integers(0, 50)),
        st.tuples(st.just("end"), st.booleans(), st.booleans()),
        st.tuples(st.just("reject")),
        st.tuples(st.just("resolve")),
        st.tuples(st.just("wait"), st.integers(0, 200)),
        st.tuples(st.just("rows"), st.integers(0, 400)),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_one_trains_at_a_time_and_nothing_is_lost(steps: list[tuple[Any, ...]]) -> None:
    state, facts, now, number = State(), replace(FACTS, rows=0), NOW, 0
    runs: list[str] = []
    open_: set[str] = set()  # accepted and neither started, merged into another, nor dropped
    ended = NOW - timedelta(days=1)
    for step in steps:
        before, asked = state, None
        if step[0] == "ask":
            number += 1
            since = now - timedelta(seconds=step[3]) if step[1] in ("drift", "performance") else None
            about = "concept" if since else None
            asked = Trigger(f"t{number}", step[1], now, about, "m1" if since else None, since, force=step[2])
            state, refusal = admit(state, asked, POLICY, facts.champion)
            if refusal is None or refusal.trigger.id != asked.id:
                open_.add(asked.id)
            if refusal and not refusal.queued:
                open_.discard(refusal.trigger.id)
        elif step[0] == "end" and state.running:
            ended = now
            state = finish(state, state.running.id, now, model=None if step[1] else "m2", rows_failed=step[2])
        elif step[0] == "reject":
            state = reject(state, "m2")
        elif step[0] == "resolve":
            state, dropped = resolved(state, "concept", "m1")
            open_ -= {dropped.trigger.id} if dropped else set()
        elif step[0] == "wait":
            now += timedelta(seconds=step[1])
        elif step[0] == "rows":
            facts = replace(facts, rows=step[1])
        if state.queued and state.queued.attempt and state.queued != before.queued:
            open_.add(state.queued.id)
        free = state.running is None
        state, said = settle(state, POLICY, facts, now)
        starts = [d for d in said if isinstance(d, Start)]
        assert len(starts) <= (1 if free else 0)
        for start in starts:
            assert start.trigger.run not in runs
            runs.append(start.trigger.run)
            assert start.trigger.force or now >= ended + timedelta(seconds=POLICY.cool_down_seconds)
            if start.trigger.since and start.trigger.kind != "operator":
                assert facts.rows >= (start.trigger.min_rows or POLICY.min_rows)
            open_.discard(start.trigger.id)
        open_ -= {d.trigger.id for d in said if isinstance(d, Refusal) and not d.queued}
        assert open_ == {t.id for t in (state.asked, state.queued) if t}
        assert all(d.queued or d.reason in ("stale", "expired") for d in said if isinstance(d, Refusal))
