"""A challenger beside the champion: serving, validation and the command together, on real servers."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from tidemill_console.app import app
from tidemill_contracts.artifacts import promotion_key, trial_key
from tidemill_contracts.events import (
    PredictionCompleted,
    PredictionFailed,
    PredictionRequested,
    RolloutChanged,
    RolloutObserved,
)
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_contracts.promotion import Promotion
from tidemill_contracts.rollout import Observation, ObservedRollout, RolloutPolicy, Trial
from tidemill_contracts.streams import state_key
from tidemill_serving.app import build as build_serving
from tidemill_serving.settings import ServingGroup, ServingSettings
from tidemill_shared.credentials import Credentials
from tidemill_shared.seal import PromotionSeal
from tidemill_shared.testing.platform import Platform
from tidemill_validation.app import build as build_validation
from tidemill_validation.settings import ValidationSettings

NAME = "gauge"
SPEC = PipelineSpec(
    name=NAME,
    task="regression",
    target="y",
    primary="mae",
    rollout=RolloutPolicy(shadow=True, canary=(0.2, 0.6), bake_rows=30, max_slowdown=50.0),
)


async def begun(
    platform: Platform, packed: Any, challenger: float, *features: str, stage: str = "shadow", share: float = 0.0
) -> tuple[str, str]:
    """A champion that answers x, and a challenger in a stage, as validation would have left them."""
    seal, now = PromotionSeal.of(platform.settings(ValidationSettings).keys), datetime.now(UTC)
    old, new = await packed(platform, 1.0, NAME), await packed(platform, challenger, NAME, ("x", *features))
    promotion = seal.sealed(Promotion(sequence=1, promoted_at=now, **old))
    await platform.store.put_document(promotion_key(NAME, 1), promotion)
    trial = seal.sealed(Trial(sequence=1, stage=stage, share=share, against=old["version"], decided_at=now, **new))
    await platform.store.put_document(trial_key(NAME, 1), trial)
    return old["version"], new["version"]


class Load:
    """Requests, a few at a time, until something has happened."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.ids: list[str] = []

    async def until(self, stage: str, share: float = 0.0) -> RolloutChanged:
        """The step into a stage."""
        async with asyncio.timeout(120):
            while True:
                for event in await self._platform.events(RolloutChanged):
                    if (event.data.stage, event.data.share) == (stage, share):
                        return event
                first = len(self.ids)
                self.ids += [f"r-{i}" for i in range(first, first + 20)]
                await self._platform.publish(
                    *[
                        PredictionRequested.root(
                            RequestedPrediction(features={"x": float(i % 7)}),
                            id=f"r-{i}",
                            subject=NAME,
                            source="urn:test",
                        )
                        for i in range(first, first + 20)
                    ]
                )
                await asyncio.sleep(0.1)

    async def answers(self) -> list[PredictionCompleted]:
        """All of them, once each has its answer."""
        async with asyncio.timeout(60):
            while True:
                found = await self._platform.events(PredictionCompleted, NAME)
                if {e.data.prediction_id for e in found} == set(self.ids):
                    return found
                await asyncio.sleep(0.05)


def services(platform: Platform) -> tuple[Any, Any]:
    group = ServingGroup(observe_seconds=0.1, refresh_seconds=1.0)
    serving = build_serving(platform.settings(ServingSettings, serving=group))
    return serving, build_validation(platform.settings(ValidationSettings))


async def test_a_challenger_goes_from_the_shadow_to_the_top_over_restarts(platform: Platform, packed: Any) -> None:
    await platform.declare(SPEC)
    old, new = await begun(platform, packed, 1.01)
    load = Load(platform)
    for stage, share in (("canary", 0.2), ("canary", 0.6)):  # each with processes of its own
        serving, validation = services(platform)
        async with platform.running(serving), platform.running(validation):
            step = await load.until(stage, share)
    serving, validation = services(platform)
    async with platform.running(serving), platform.running(validation):
        end = await load.until("finished")
        answers = await load.answers()
        seen = len(load.ids)
        async with asyncio.timeout(60):
            while (await load.answers())[-1].data.model_version != new:
                load.ids.append(f"r-{len(load.ids)}")
                features = RequestedPrediction(features={"x": 1.0})
                asked = PredictionRequested.root(features, id=load.ids[-1], subject=NAME, source="urn:test")
                await platform.publish(asked)
    assert step.data.evidence is not None and step.data.evidence.rows >= 30
    assert end.data.version == new and len(answers) == seen
    assert {a.data.model_version for a in answers} == {old, new}
    assert await platform.events(PredictionFailed, NAME) == []


async def test_a_challenger_that_answers_otherwise_is_stopped_before_anybody_sees_an_answer_of_it(
    platform: Platform, packed: Any
) -> None:
    """The values go beyond float32, which is no answer."""
    await platform.declare(SPEC)
    old, new = await begun(platform, packed, 1e38)
    load = Load(platform)
    serving, validation = services(platform)
    async with platform.running(serving), platform.running(validation):
        end = await load.until("abandoned")
        answers = await load.answers()
    assert end.data.version == new and "fails" in end.data.reason
    assert {a.data.model_version for a in answers} == {old}
    assert await platform.events(PredictionFailed, NAME) == []


async def test_a_challenger_that_wants_a_column_nobody_sends_costs_nobody_an_answer(
    platform: Platform, packed: Any
) -> None:
    await platform.declare(SPEC)
    old, new = await begun(platform, packed, 1.0, "z", stage="canary", share=0.9)
    load = Load(platform)
    serving, validation = services(platform)
    async with platform.running(serving):
        await platform.wait_for(RolloutObserved)  # it is tried from here on
        async with httpx.AsyncClient(timeout=60) as client:
            url = f"http://127.0.0.1:{serving.port}/v2/models/{NAME}/infer"
            column = {"name": "x", "datatype": "FP32", "shape": [1], "data": [3.0]}
            asked = [await client.post(url, json={"id": f"h-{i}", "inputs": [column]}) for i in range(10)]
        async with platform.running(validation):
            end = await load.until("abandoned")
            answers = await load.answers()
    assert {a.json()["model_version"] for a in asked} == {a.data.model_version for a in answers} == {old}
    assert await platform.events(PredictionFailed, NAME) == []
    assert end.data.version == new and "fails 100.0%" in end.data.reason


@pytest.fixture
def tidemill(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[Result]]:
    """The command, as an operator runs it who has the key for requests."""
    made = Credentials(platform.directory / "credentials")
    known = platform.environment(KEYS__OPERATOR_PRIVATE_FILE=str(made.operator_private_key))
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    # The command runs beside the test's loop, in a thread, where no signal can be handled.
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    async def run(*words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, [*words])

    return run


async def test_a_person_sees_hastens_and_ends_a_trial(
    platform: Platform, tidemill: Callable[..., Awaitable[Result]], packed: Any
) -> None:
    await platform.declare(SPEC)
    old, new = await begun(platform, packed, 1.01)
    settings = platform.settings(ValidationSettings)
    file = Credentials(platform.directory / "credentials").operator_public_key
    keys = settings.keys.model_copy(update={"operator_public_file": file})
    counts = {"champion": Observation(version=old, rows=9), "challenger": Observation(version=new, rows=9, failed=2)}
    for run in ("one", "two"):
        data = ObservedRollout.model_validate({"trial": 1, "run": run, **counts})
        await platform.publish(RolloutObserved.root(data, subject=f"{NAME}/{new}", source="urn:test"))
    async with platform.running(build_validation(settings.model_copy(update={"keys": keys}))):
        async with asyncio.timeout(60):  # until the counts are known
            while await platform.redis.hlen(state_key(platform.namespace, "validation", f"rollout:{NAME}")) < 2:
                await asyncio.sleep(0.05)
        shown = json.loads((await tidemill("trial", "show", NAME, "--json")).stdout)
        said = (await tidemill("trial", "show", NAME)).output
        status = (await tidemill("status")).output
        words = ("trial", "advance", NAME, "--reason", "a quiet night", "--json")
        hastened = json.loads((await tidemill(*words)).stdout)
        ended = await tidemill("trial", "end", NAME, "--refuse", "--reason", "it smells")
        nothing = await tidemill("trial", "promote", NAME)
        unknown = await tidemill("trial", "show", "gouge")
        later = json.loads((await tidemill("trial", "show", NAME, "--json")).stdout)
    assert (shown["trial"]["version"], shown["trial"]["stage"], shown["champion"]) == (new, "shadow", old)
    assert shown["counted"] == {"rows": 18, "failed": 4, "champion_rows": 18, "champion_failed": 0}
    assert f"{new} is tried beside {old}: shadow, entry 1" in said and "18 rows, 4 failed" in said
    assert f"{NAME} tries {new}: shadow" in status and f"tidemill trial end {NAME}" in status
    assert (hastened["stage"], hastened["share"], hastened["evidence"]["rows"]) == ("canary", 0.2, 18)
    assert hastened["reason"].endswith(": a quiet night")
    assert ended.exit_code == 0 and "abandoned" in ended.output
    assert (nothing.exit_code, unknown.exit_code) == (1, 1)
    assert "tries nothing now" in nothing.output and f"declared: {NAME}" in unknown.output
    assert later["trial"] is None and [t["refused"] for t in later["log"]] == [False, False, True]
