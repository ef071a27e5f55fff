"""A challenger beside the champion, on a real Redis and a real S3."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tidemill_contracts.artifacts import trial_key
from tidemill_contracts.events import (
    ModelDeployed,
    PredictionCompleted,
    PredictionFailed,
    PredictionRequested,
    PredictionsCompleted,
    PredictionShadowed,
    PredictionsRequested,
    RolloutChanged,
    RolloutObserved,
)
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.prediction import RequestedPrediction, RequestedPredictions
from tidemill_contracts.rollout import ChangedRollout, ObservedRollout, RolloutPolicy, Trial
from tidemill_contracts.streams import state_key, stream_key
from tidemill_serving.app import build
from tidemill_serving.domain.share import chosen, threshold
from tidemill_serving.settings import ServingGroup, ServingSettings
from tidemill_serving.tally import Tally
from tidemill_shared.seal import PromotionSeal
from tidemill_shared.service import Service
from tidemill_shared.testing.platform import Platform

ROW: dict[str, Any] = {"height": 1.0, "weight": None, "colour": "green"}
TENSORS: list[dict[str, Any]] = [
    {"name": "height", "datatype": "FP32", "shape": [1], "data": [1.0]},
    {"name": "weight", "datatype": "FP32", "shape": [1], "data": [0.0]},
    {"name": "colour", "datatype": "BYTES", "shape": [1], "data": ["red"]},
]
ROWS = 200
Tried = Callable[..., Awaitable[RolloutChanged]]


def request(id_: str, features: dict[str, Any] = ROW) -> PredictionRequested:
    return PredictionRequested.root(RequestedPrediction(features=features), id=id_, subject="sales", source="urn:test")


@pytest.fixture
def spec() -> PipelineSpec:
    """A pipeline that rolls out in steps."""
    policy = RolloutPolicy(canary=(0.3, 0.6))
    return PipelineSpec(name="sales", task="classification", target="sold", primary="f1", rollout=policy)


@pytest.fixture
def tried(platform: Platform) -> Tried:
    """``await tried(sequence, packed, against, …)``: write a sealed entry of the log; the event is not published."""

    async def call(
        sequence: int, packed: dict[str, Any], against: str, *, stage: str = "canary", share: float = 0.3
    ) -> RolloutChanged:
        facts = packed | {"sequence": sequence, "stage": stage, "share": share, "against": against}
        trial = Trial.model_validate(facts | {"reason": "a test", "cause": "cause", "decided_at": datetime.now(UTC)})
        trial = PromotionSeal.of(platform.settings(ServingSettings).keys).sealed(trial)
        entry = await platform.store.put_document(trial_key("sales", sequence), trial)
        data = ChangedRollout.model_validate(trial.model_dump() | {"trial": entry})
        return RolloutChanged.root(data, subject=f"sales/{trial.version}", source="urn:test")

    return call


def service_for(platform: Platform, canary_seconds: float = 60.0) -> Service:
    group = ServingGroup(observe_seconds=0.1, refresh_seconds=0.5, canary_seconds=canary_seconds)
    return build(platform.settings(ServingSettings, serving=group))


@asynccontextmanager
async def serving(
    platform: Platform, spec: PipelineSpec, promote: Any, canary_seconds: float = 60.0
) -> AsyncIterator[str]:
    """Serving with a champion, whose version is given."""
    await platform.declare(spec)
    promoted = await promote(1, bias=0.5)
    async with platform.running(service_for(platform, canary_seconds)):
        await platform.publish(promoted)
        await platform.wait_for(ModelDeployed)
        yield promoted.data.version


@asynccontextmanager
async def halved(
    platform: Platform, spec: PipelineSpec, promote: Any, pack: Any, tried: Tried
) -> AsyncIterator[tuple[Service, str, str]]:
    """Serving with a champion, and a challenger that answers the opposite to half of the requests; their versions."""
    await platform.declare(spec)
    champion = (await promote(1, bias=0.5)).data.version
    packed = await pack(bias=-9.0)
    await tried(1, packed, champion, share=0.5)
    service = service_for(platform)
    async with platform.running(service):
        yield service, champion, packed["version"]


async def observed(platform: Platform, trial: int, rows: int) -> RolloutObserved:
    """The counts of a stage once both models together have so many rows."""
    return await platform.wait_for(
        RolloutObserved,
        lambda e: e.data.trial == trial and e.data.champion.rows + e.data.challenger.rows >= rows,
        timeout=40,
    )


async def answers(platform: Platform, ids: list[str]) -> dict[str, PredictionCompleted]:
    """The answer to each of these requests."""
    await platform.wait_for(
        PredictionCompleted, lambda e: e.data.prediction_id == ids[-1], pipeline="sales", timeout=40
    )
    found = {}
    for id_ in ids:
        found[id_] = await platform.wait_for(
            PredictionCompleted, lambda e, id_=id_: e.data.prediction_id == id_, pipeline="sales", timeout=40
        )
    return found


async def test_a_share_by_hash_is_the_challengers_and_both_are_counted(
    platform: Platform, spec: PipelineSpec, promote: Any, pack: Any, tried: Tried
) -> None:
    async with serving(platform, spec, promote) as champion:
        packed = await pack(bias=-3.0)
        new = packed["version"]
        await platform.publish(await tried(1, packed, champion))
        await observed(platform, 1, 0)
        ids = [f"r-{i}" for i in range(ROWS)]
        await platform.publish(*[request(id_) for id_ in ids])
        seen = await observed(platform, 1, ROWS)
        found = await answers(platform, ids)
    expected = {id_ for id_ in ids if chosen(id_, new, threshold(0.3))}
    assert {id_ for id_, a in found.items() if a.data.model_version == new} == expected
    assert 0.15 * ROWS < len(expected) < 0.45 * ROWS
    assert {a.data.prediction for id_, a in found.items() if id_ in expected} == {"no"}
    assert (seen.data.challenger.rows, seen.data.champion.rows) == (len(expected), ROWS - len(expected))
    assert (seen.data.challenger.answers, seen.data.challenger.failed) == ({"no": len(expected)}, 0)
    assert sum(seen.data.champion.calls.values()) >= 1


async def test_a_stage_raises_the_share_the_end_gives_all_to_the_champion_and_a_restart_goes_on(
    platform: Platform, spec: PipelineSpec, promote: Any, pack: Any, tried: Tried
) -> None:
    async with serving(platform, spec, promote) as champion:
        packed = await pack(bias=-3.0)
        new = packed["version"]
        await platform.publish(await tried(1, packed, champion))
        await observed(platform, 1, 0)
        await tried(2, packed, champion, share=0.9)  # its event is lost: the log is looked at all the same
        await observed(platform, 2, 0)
    async with platform.running(service_for(platform)):  # finds the stage in the log
        ids = [f"r-{i}" for i in range(40)]
        await platform.publish(*[request(id_) for id_ in ids])
        by_stage = await answers(platform, ids)
        await platform.publish(await tried(3, packed, champion, stage="abandoned", share=0.0))
        for n in range(200):  # until the news is there; each time an id that the challenger would have
            late = next(f"late-{n}-{i}" for i in range(99) if chosen(f"late-{n}-{i}", new, threshold(0.9)))
            await platform.publish(request(late))
            found = (await answers(platform, [late]))[late]
            if found.data.model_version == champion:
                break
    assert {i for i, a in by_stage.items() if a.data.model_version == new} == {
        i for i in ids if chosen(i, new, threshold(0.9))
    }
    assert found.data.model_version == champion


async def test_what_the_challenger_cannot_answer_the_champion_does(
    platform: Platform,
    spec: PipelineSpec,
    promote: Any,
    pack: Any,
    tried: Tried,
    make_signature: Any,
    make_golden: Any,
) -> None:
    """The challenger knows no green: each such row fails there, is counted, and is answered all the same."""
    known = make_golden(-3.0)
    golden = known.model_copy(update={"predictions": known.predictions[::2]})
    signature = make_signature(categories={"colour": ("red", "blue")})
    files = {"signature.json": signature.to_json(), "golden.json": golden.to_json()}
    async with serving(platform, spec, promote) as champion:
        packed = await pack(bias=-3.0, files=files)
        await platform.publish(await tried(1, packed, champion, share=1.0))
        await observed(platform, 1, 0)
        ids = [f"r-{i}" for i in range(30)]
        await platform.publish(*[request(id_) for id_ in ids], request("red", ROW | {"colour": "red"}))
        seen = await observed(platform, 1, 61)
        found = await answers(platform, [*ids, "red"])
        assert await platform.events(PredictionFailed, "sales") == []
    assert {found[id_].data.model_version for id_ in ids} == {champion}
    assert found["red"].data.model_version == packed["version"]
    assert (seen.data.challenger.rows, seen.data.challenger.failed) == (31, 30)
    assert (seen.data.champion.rows, seen.data.champion.failed) == (30, 0)


async def test_no_answer_of_the_champions_waits_for_a_slow_challenger(
    platform: Platform, spec: PipelineSpec, promote: Any, pack: Any, tried: Tried, gate: Any
) -> None:
    async with serving(platform, spec, promote) as champion:
        packed = await pack(bias=-3.0)
        new = packed["version"]
        await platform.publish(await tried(1, packed, champion, share=0.5))
        await observed(platform, 1, 0)
        gate.close()
        ids: list[str] = []
        for wave in range(3):  # each shares its batch with requests of the challenger's
            more = [f"{wave}-{i}" for i in range(20)]
            await platform.publish(*[request(id_) for id_ in more])
            await answers(platform, [id_ for id_ in more if not chosen(id_, new, threshold(0.5))])
            ids += more
        early = {e.data.prediction_id for e in await platform.events(PredictionCompleted, "sales")}
        gate.open()
        found = await answers(platform, ids)
        seen = await observed(platform, 1, len(ids))
    theirs = {id_ for id_ in ids if chosen(id_, new, threshold(0.5))}
    assert early == set(ids) - theirs and len(theirs) > 10
    assert seen.data.champion.routes.keys() == seen.data.challenger.routes.keys() == {"stream"}
    assert {id_ for id_, a in found.items() if a.data.model_version == new} == theirs
    assert (seen.data.challenger.rows, seen.data.challenger.failed) == (len(theirs), 0)


async def test_the_champion_answers_what_a_challenger_takes_too_long_for(
    platform: Platform, spec: PipelineSpec, promote: Any, pack: Any, tried: Tried, gate: Any
) -> None:
    async with serving(platform, spec, promote, canary_seconds=0.1) as champion:
        packed = await pack(bias=-3.0)
        await platform.publish(await tried(1, packed, champion, share=0.99))
        await observed(platform, 1, 0)
        gate.close()
        ids = [f"r-{i}" for i in range(30)]
        await platform.publish(*[request(id_) for id_ in ids])
        found = await answers(platform, ids)
        theirs = [id_ for id_ in ids if chosen(id_, packed["version"], threshold(0.99))]
        seen = await observed(platform, 1, len(ids) + len(theirs))
        gate.open()
        assert await platform.events(PredictionFailed, "sales") == []
    assert {a.data.model_version for a in found.values()} == {champion}
    assert (seen.data.challenger.rows, seen.data.challenger.failed) == (len(theirs), len(theirs))
    assert (seen.data.champion.rows, seen.data.champion.failed) == (len(ids), 0)


async def test_over_http_nobody_waits_for_a_slow_challenger(
    platform: Platform, spec: PipelineSpec, promote: Any, pack: Any, tried: Tried, gate: Any
) -> None:
    ids = [f"h-{i}" for i in range(20)]
    serving_both = halved(platform, spec, promote, pack, tried)
    async with serving_both as (service, champion, new), httpx.AsyncClient(timeout=60) as client:
        theirs = {id_ for id_ in ids if chosen(id_, new, threshold(0.5))}
        url = f"http://127.0.0.1:{service.port}/v2/models/sales/infer"

        async def ask(id_: str) -> str:
            answer = await client.post(url, json={"id": id_, "inputs": TENSORS})
            return str(answer.raise_for_status().json()["model_version"])

        gate.close()
        async with asyncio.TaskGroup() as group:
            waiting = {id_: group.create_task(ask(id_)) for id_ in sorted(theirs)}
            found = {id_: await ask(id_) for id_ in ids if id_ not in theirs}
            early = {id_ for id_, task in waiting.items() if task.done()}
            gate.open()
    assert set(found.values()) == {champion} and not early
    assert {task.result() for task in waiting.values()} == {new} and 0 < len(theirs) < 20


async def test_a_table_is_answered_as_a_whole(
    platform: Platform, spec: PipelineSpec, promote: Any, pack: Any, tried: Tried
) -> None:
    async with serving(platform, spec, promote) as champion:
        packed = await pack(bias=-3.0)
        new = packed["version"]
        await platform.publish(await tried(1, packed, champion, share=0.5))
        await observed(platform, 1, 0)
        columns = {"height": (1.0, 2.0), "weight": (None, 0.0), "colour": ("red", "green")}
        for i in range(20):
            data = RequestedPredictions(ids=(f"{i}-a", f"{i}-b"), columns=columns)
            await platform.publish(PredictionsRequested.root(data, id=f"t-{i}", subject="sales", source="urn:test"))
        seen = await observed(platform, 1, 40)
        tables = {e.causationid: e.data for e in await platform.events(PredictionsCompleted, "sales")}
    theirs = {id_ for id_, data in tables.items() if data.model_version == new}
    assert len(tables) == 20 and theirs == {f"t-{i}" for i in range(20) if chosen(f"t-{i}", new, threshold(0.5))}
    assert seen.data.challenger.rows == 2 * len(theirs)


@pytest.mark.parametrize("how", ["unsigned", "moved", "promotion"])
async def test_a_forged_entry_begins_no_trial(
    platform: Platform, spec: PipelineSpec, promote: Any, pack: Any, tried: Tried, how: str
) -> None:
    async with serving(platform, spec, promote) as champion:
        packed = await pack(bias=-3.0)
        event = await tried(2 if how == "moved" else 1, packed, champion, share=1.0)
        entry = json.loads(await platform.store.get(event.data.trial))
        if how == "unsigned":
            entry["signature"] = None
        elif how == "moved":
            entry["sequence"] = 1
        else:  # a signature of validation's, over an entry of the other log
            again = await platform.store.read("registry/sales/promotions/00000001.json")
            entry = json.loads(again or b"") | {"stage": "canary", "share": 1.0, "against": champion}
        await platform.store.put(trial_key("sales", 1), json.dumps(entry).encode())
        if how == "moved":
            await platform.store.put(trial_key("sales", 2), b"{}")
        await platform.publish(event)
        ids = [f"r-{i}" for i in range(20)]
        await platform.publish(*[request(id_) for id_ in ids])
        found = await answers(platform, ids)
        assert await platform.events(RolloutObserved) == []
    assert {a.data.model_version for a in found.values()} == {champion}


async def test_a_challenger_that_fails_its_proof_is_told_of(
    platform: Platform, spec: PipelineSpec, promote: Any, pack: Any, tried: Tried, make_golden: Any
) -> None:
    async with serving(platform, spec, promote) as champion:
        packed = await pack(bias=-3.0, files={"golden.json": make_golden(2.0).to_json()})
        await platform.publish(await tried(1, packed, champion, share=1.0))
        seen = await observed(platform, 1, 0)
        await platform.publish(request("r"))
        found = await answers(platform, ["r"])
    assert "golden" in seen.data.problem
    assert found["r"].data.model_version == champion


def test_shares_grow_and_fit_their_name() -> None:
    ids = [f"id-{i}" for i in range(20_000)]
    small, large = ({i for i in ids if chosen(i, "v", threshold(share))} for share in (0.05, 0.25))
    assert small < large
    assert abs(len(small) / len(ids) - 0.05) < 0.01 and abs(len(large) / len(ids) - 0.25) < 0.02
    assert small != {i for i in ids if chosen(i, "w", threshold(0.05))}


def test_values_fall_into_bins_and_durations_too() -> None:
    tally = Tally("a" * 12, (0.0, 10.0))
    tally.add([-1.0, 5.0, 5, 11.0], 1, 0.001, "stream")
    found = tally.observation()
    assert (found.rows, found.failed, found.answers) == (5, 1, {"0": 1, "1": 2, "2": 1})
    (k,) = map(int, found.calls)
    assert 1.25 ** (k - 1) < 1000 <= 1.25**k
    for seconds in (0.001, 0.1, None):
        tally.add([1.0], 0, seconds, "http")
    found = tally.observation()
    assert found.routes == {"http": {str(k): 1, "52": 1}, "stream": {str(k): 1}}
    assert found.calls == {str(k): 2, "52": 1}


async def test_a_shadow_answers_in_silence_and_leaves_no_group_behind(
    platform: Platform, spec: PipelineSpec, promote: Any, pack: Any, tried: Tried
) -> None:
    stream = stream_key(platform.namespace, PredictionRequested.type_name(), "sales")
    columns = {"height": (1.0, 2.0), "weight": (None, 0.0), "colour": ("red", "mauve")}
    table = PredictionsRequested.root(
        RequestedPredictions(ids=("t-a", "t-b"), columns=columns), id="t", subject="sales", source="urn:test"
    )
    async with serving(platform, spec, promote) as champion:
        await platform.publish(request("before"))
        await answers(platform, ["before"])
        packed = await pack(bias=-3.0)
        await platform.publish(await tried(1, packed, champion, stage="shadow", share=0.0))
        await observed(platform, 1, 0)
        ids = [f"r-{i}" for i in range(50)]
        await platform.publish(*[request(id_) for id_ in ids], table)
        seen = await observed(platform, 1, 2 * 52)
        found = await answers(platform, ids)
        shadowed = {e.data.prediction_id: e.data for e in await platform.events(PredictionShadowed, "sales")}
        groups = {group["name"] for group in await platform.redis.xinfo_groups(stream)}
        assert b"serving-shadow" in groups
        await platform.publish(await tried(2, packed, champion, share=0.5))
        await observed(platform, 2, 0)
        groups = {group["name"] for group in await platform.redis.xinfo_groups(stream)}
    assert b"serving-shadow" not in groups
    assert {a.data.model_version for a in found.values()} == {champion}
    assert len(await platform.events(PredictionCompleted, "sales")) == 51
    assert set(shadowed) == {*ids, "t-a", "t-b"}
    assert {shadowed[id_].prediction for id_ in ids} == {"no"}
    assert (shadowed["t-a"].model_version, shadowed["t-b"].error) == (packed["version"], "unknown_category")
    assert (seen.data.challenger.rows, seen.data.challenger.failed) == (52, 1)
    assert (seen.data.champion.rows, seen.data.champion.failed) == (52, 1)


async def test_after_a_promotion_the_model_before_scores_the_same_rows(
    platform: Platform, spec: PipelineSpec, promote: Any
) -> None:
    watching = spec.model_copy(update={"rollout": RolloutPolicy(watch_rows=100)})
    async with serving(platform, watching, promote) as first:
        await platform.publish(request("unwatched"))  # there is no model before the first
        await answers(platform, ["unwatched"])
        second = await promote(2, bias=-3.0)
        await platform.publish(second)
        await platform.wait_for(ModelDeployed, lambda e: e.data.sequence == 2)
        ids = [f"r-{i}" for i in range(40)]
        await platform.publish(*[request(id_) for id_ in ids], request("mauve", ROW | {"colour": "mauve"}))
        seen = await platform.wait_for(RolloutObserved, lambda e: e.data.challenger.rows >= 41, timeout=40)
        found = await answers(platform, ids)
        assert len(await platform.events(PredictionCompleted, "sales")) == 41
    assert {a.data.model_version for a in found.values()} == {second.data.version}
    assert (seen.data.promotion, seen.data.trial) == (2, 0)
    assert (seen.data.champion.version, seen.data.challenger.version) == (first, second.data.version)
    assert (seen.data.challenger.answers, seen.data.challenger.failed) == ({"no": 40}, 1)
    assert (seen.data.champion.answers, seen.data.champion.failed) == ({"yes": 40}, 1)


def newest(events: list[RolloutObserved]) -> dict[str, ObservedRollout]:
    """The last counts of each process."""
    return {e.data.run: e.data for e in events}


async def test_a_watch_goes_on_after_its_process_was_killed(
    platform: Platform, spec: PipelineSpec, promote: Any, replicas: Any
) -> None:
    await platform.declare(spec.model_copy(update={"rollout": RolloutPolicy(watch_rows=60)}))
    first, second = (await promote(1, bias=0.5)).data.version, (await promote(2, bias=-3.0)).data.version
    seen: dict[str, ObservedRollout] = {}
    progress = state_key(platform.namespace, "serving", "watched:sales")
    for number, wave in enumerate((25, 50)):
        await replicas.start(f"{number}")  # knows the present champion alone, as after any restart
        await platform.publish(*[request(f"{number}-{i}") for i in range(wave)])
        async with asyncio.timeout(120):
            while len(seen) <= number or sum(s.challenger.rows for s in seen.values()) < (25, 60)[number]:
                await asyncio.sleep(0.05)
                seen = newest(await platform.events(RolloutObserved))
        async with asyncio.timeout(60):  # they are counted for all processes just after they are told of
            while int(await platform.redis.hget(progress, "2") or 0) < (25, 60)[number]:
                await asyncio.sleep(0.05)
        if number == 0:
            await replicas.kill("0")
    assert {s.promotion for s in seen.values()} == {2} and len(seen) == 2
    for counts in seen.values():
        assert (counts.champion.version, counts.challenger.version) == (first, second)
        assert counts.champion.answers == {"yes": counts.champion.rows}
        assert counts.challenger.answers == {"no": counts.champion.rows}


async def ask(service: Service, ids: list[str], tensors: list[dict[str, Any]] = TENSORS) -> set[str]:
    """Ask over HTTP; the versions that answered."""
    async with httpx.AsyncClient(timeout=60) as client:
        url = f"http://127.0.0.1:{service.port}/v2/models/sales/infer"
        found = [await client.post(url, json={"id": id_, "inputs": tensors}) for id_ in ids]
    return {answer.json().get("model_version", answer.status_code) for answer in found}


async def test_a_shadow_scores_what_is_asked_over_http_too(
    platform: Platform, spec: PipelineSpec, promote: Any, pack: Any, tried: Tried
) -> None:
    await platform.declare(spec)
    champion = (await promote(1, bias=0.5)).data.version
    packed = await pack(bias=-9.0)
    await tried(1, packed, champion, stage="shadow", share=0.0)
    service = service_for(platform)
    two = [{**t, "shape": [2], "data": t["data"] * 2} for t in TENSORS]
    async with platform.running(service):
        await observed(platform, 1, 0)
        versions = await ask(service, ["h-1", "h-2", "no id, since it has spaces"]) | await ask(service, ["two"], two)
        wrong = await ask(service, ["wrong"], TENSORS[:1])
        seen = await observed(platform, 1, 12)
        rows = {"h-1", "h-2", "two:0", "two:1", "wrong"}
        async with asyncio.timeout(60):
            while rows - (shadowed := {e.data.prediction_id: e.data for e in await shadows(platform)}).keys():
                await asyncio.sleep(0.05)
    assert (versions, wrong) == ({champion}, {400})
    assert (seen.data.champion.answers, seen.data.champion.failed) == ({"yes": 5}, 1)
    assert (seen.data.challenger.answers, seen.data.challenger.failed) == ({"no": 5}, 1)
    assert shadowed.keys() == rows and {shadowed[row].prediction for row in rows - {"wrong"}} == {"no"}
    assert shadowed["wrong"].error == "bad_request"


async def shadows(platform: Platform) -> list[PredictionShadowed]:
    return await platform.events(PredictionShadowed, "sales")


async def test_a_watch_counts_what_is_asked_over_http_too(platform: Platform, spec: PipelineSpec, promote: Any) -> None:
    await platform.declare(spec.model_copy(update={"rollout": RolloutPolicy(watch_rows=100)}))
    versions = [(await promote(number, bias=bias)).data.version for number, bias in ((1, 0.5), (2, -9.0))]
    service = service_for(platform)
    async with platform.running(service):
        assert await ask(service, [f"h-{i}" for i in range(10)]) == {versions[1]}
        assert await ask(service, ["wrong"], TENSORS[:1]) == {400}
        seen = await platform.wait_for(RolloutObserved, lambda e: e.data.challenger.rows >= 11, timeout=40)
    assert (seen.data.promotion, seen.data.champion.version, seen.data.challenger.version) == (2, *versions)
    assert (seen.data.champion.answers, seen.data.champion.failed) == ({"yes": 10}, 1)
    assert (seen.data.challenger.answers, seen.data.challenger.failed) == ({"no": 10}, 1)


async def test_requests_over_http_are_shared_by_their_ids(
    platform: Platform, spec: PipelineSpec, promote: Any, pack: Any, tried: Tried
) -> None:
    serving_both = halved(platform, spec, promote, pack, tried)
    async with serving_both as (service, champion, new), httpx.AsyncClient(timeout=60) as client:
        models = f"http://127.0.0.1:{service.port}/v2/models/sales"
        found, outputs = {}, {}
        for i in range(30):
            done = await client.post(f"{models}/infer", json={"id": f"h-{i}", "inputs": TENSORS})
            answer = done.raise_for_status().json()
            found[f"h-{i}"], outputs[answer["model_version"]] = answer["model_version"], answer["outputs"][0]["data"]
        pinned = await client.post(f"{models}/versions/{champion}/infer", json={"id": "h-0", "inputs": TENSORS})
        wrong = await client.post(f"{models}/infer", json={"id": "bad", "inputs": TENSORS[:1]})
        seen = await observed(platform, 1, 31)
    theirs = {id_ for id_, version in found.items() if version == new}
    assert theirs == {id_ for id_ in found if chosen(id_, new, threshold(0.5))} and 0 < len(theirs) < 30
    assert outputs == {champion: ["yes"], new: ["no"]}
    assert pinned.json()["model_version"] == champion and wrong.status_code == 400
    assert seen.data.challenger.rows >= len(theirs)
    assert seen.data.champion.routes.keys() == seen.data.challenger.routes.keys() == {"http"}
