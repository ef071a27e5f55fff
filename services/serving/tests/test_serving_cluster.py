"""Serving on a Redis Cluster: pipelines spread over its masters, replicas killed, every request answered once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import EventDeadLettered, ModelPromoted, PredictionCompleted, PredictionRequested
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_contracts.streams import stream_key
from tidemill_shared.testing.platform import Platform
from tidemill_shared.testing.servers import Servers

ROW = {"height": 1.0, "weight": 0.5, "colour": "red"}
_REQUESTS = 150
"""Of a pipeline, in three parts."""


@pytest.fixture
async def platform(cluster: Servers, signing_keys: tuple[Path, Path], tmp_path: Path) -> AsyncIterator[Platform]:
    async with Platform.open(cluster, signing_keys, tmp_path) as opened:
        yield opened


def requests_of(platform: Platform, pipeline: str) -> str:
    return stream_key(platform.namespace, PredictionRequested.type_name(), pipeline)


def spread(platform: Platform) -> list[str]:
    """Names of six pipelines, two on each master."""
    found: dict[Any, list[str]] = {}
    for number in range(1000):
        names = found.setdefault(platform.bus.nodes.of(requests_of(platform, f"p{number}")), [])
        if len(names) < 2:
            names.append(f"p{number}")
    assert len(found) == 3
    return [name for names in found.values() for name in names]


async def answered(platform: Platform, names: list[str], at_least: int) -> dict[str, Counter[str]]:
    """Answers by pipeline and prediction id, once each pipeline has so many different ones."""
    async with asyncio.timeout(120):
        while True:
            found = {
                name: Counter(e.data.prediction_id for e in await platform.events(PredictionCompleted, name))
                for name in names
            }
            if all(len(ids) >= at_least for ids in found.values()):
                return found
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_pipelines_on_three_masters_are_answered_once_while_replicas_are_killed(
    platform: Platform, promote: Callable[..., Awaitable[ModelPromoted]], replicas: Any
) -> None:
    names = spread(platform)
    for name in names:
        await platform.declare(PipelineSpec(name=name, task="classification", target="sold", primary="f1"))
        await promote(1, pipeline=name)
    await replicas.start("1")
    await replicas.start("2")
    for part, dies in enumerate(("1", "2", None)):
        await ask(platform, names, part)
        if dies:
            # Somebody works by now; of what the dead one held the other is told by its lease.
            await answered(platform, names, part * _REQUESTS // 3 + 1)
            await replicas.kill(dies)
            await replicas.start(f"{dies}-again")
    stream = requests_of(platform, names[0])
    await platform.bus.nodes.of(stream).xadd(stream, {FIELD: b"no event"})
    found = await answered(platform, names, _REQUESTS)
    for name in names:
        assert set(found[name].values()) == {1}
        assert found[name].keys() == {f"{name}-{i}" for i in range(_REQUESTS)}
    await platform.wait_for(EventDeadLettered, lambda e: e.data.stream == stream, timeout=60)
    await settled(platform, names)
    assert len(await platform.events(EventDeadLettered)) == 1


async def ask(platform: Platform, names: list[str], part: int) -> None:
    numbers = range(part * _REQUESTS // 3, (part + 1) * _REQUESTS // 3)
    asked = RequestedPrediction(features=ROW)
    await platform.publish(
        *[
            PredictionRequested.root(asked, id=f"{name}-{i}", subject=name, source="urn:test")
            for i in numbers
            for name in names
        ]
    )


async def settled(platform: Platform, names: list[str]) -> None:
    """Wait until nothing is pending on any master."""
    async with asyncio.timeout(60):
        for name in names:
            stream = requests_of(platform, name)
            redis = platform.bus.nodes.of(stream)
            while (await redis.xpending(stream, "serving"))["pending"]:
                await asyncio.sleep(0.05)
