"""A master of a Redis Cluster dies, and its replica takes its place: what the replica had is answered once.

Redis replicates asynchronously: what a master had accepted and not passed on is lost with it, and no test may say
otherwise. Here every request has reached the replica before its master is killed.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from tidemill_contracts.artifacts import promotion_key
from tidemill_contracts.events import PipelineDeclared, PredictionCompleted, PredictionRequested
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_contracts.promotion import Promotion
from tidemill_contracts.streams import stream_key
from tidemill_serving.app import build
from tidemill_serving.settings import ServingSettings
from tidemill_shared.seal import PromotionSeal
from tidemill_shared.testing.cluster import Replicated, replicated
from tidemill_shared.testing.platform import Platform
from tidemill_shared.testing.servers import Servers

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(servers: Servers, tmp_path: Path) -> Iterator[Replicated]:
    with replicated(servers, tmp_path / "cluster") as made:
        yield made


@pytest.fixture
async def platform(cluster: Replicated, signing_keys: tuple[Path, Path], tmp_path: Path) -> AsyncIterator[Platform]:
    async with Platform.open(cluster.servers, signing_keys, tmp_path) as opened:
        yield opened


def requests_of(platform: Platform, pipeline: str) -> str:
    return stream_key(platform.namespace, PredictionRequested.type_name(), pipeline)


def port_of(platform: Platform, key: str) -> int:
    return int(platform.bus.nodes.of(key).connection_pool.connection_kwargs["port"])


def spread(platform: Platform) -> list[str]:
    """Names of three pipelines, one on each master, the first one beside the control plane."""
    found = {port_of(platform, requests_of(platform, f"p{n}")): f"p{n}" for n in range(1_000)}
    control = port_of(platform, stream_key(platform.namespace, PipelineDeclared.type_name()))
    assert len(found) == 3
    return [found.pop(control), *found.values()]


async def until(done: Any, seconds: float = 120.0) -> None:
    """Poll; a server that is away, or was followed by another, is asked again."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(RedisError):
                if await done():
                    return
            await asyncio.sleep(0.1)


class Requests:
    """Asks and counts."""

    def __init__(self, platform: Platform, names: list[str]) -> None:
        self._platform = platform
        self._names = names
        self._asked = 0

    async def ask(self, count: int) -> None:
        """So many of each pipeline, under ids of their own; repeated with the same ids until they were taken."""
        numbers = range(self._asked, self._asked + count)
        self._asked += count
        for name in self._names:
            events = [
                PredictionRequested.root(
                    RequestedPrediction(features={"x": float(i)}), id=f"{name}-{i}", subject=name, source="urn:test"
                )
                for i in numbers
            ]

            async def taken(events: list[PredictionRequested] = events) -> bool:
                await self._platform.bus.nodes.look()
                await self._platform.publish(*events)
                return True

            await until(taken)

    async def answered(self) -> None:
        """Each request has one answer, whatever happened meanwhile."""
        for name in self._names:
            wanted = {f"{name}-{i}" for i in range(self._asked)}
            found: Counter[str] = Counter()

            async def all_there(name: str = name, wanted: set[str] = wanted) -> bool:
                nonlocal found
                await self._platform.bus.nodes.look()
                events = await self._platform.events(PredictionCompleted, name)
                found = Counter(e.data.prediction_id for e in events)
                return found.keys() >= wanted

            await until(all_there)
            assert found.keys() == wanted and set(found.values()) == {1}


async def served(platform: Platform, packed: Any, names: list[str]) -> None:
    """Each pipeline with a champion."""
    seal = PromotionSeal.of(platform.settings(ServingSettings).keys)
    for name in names:
        await platform.declare(PipelineSpec(name=name, task="regression", target="y", primary="mae"))
        entry = Promotion(sequence=1, promoted_at="2026-01-01T00:00:00Z", **await packed(platform, 2.0, name))
        await platform.store.put_document(promotion_key(name, 1), seal.sealed(entry))


async def killed(cluster: Replicated, platform: Platform, key: str) -> None:
    """The master that holds the key, once its replica has everything."""
    await until(lambda: platform.bus.nodes.of(key).execute_command("WAIT", 1, 1_000))
    cluster.kill(port_of(platform, key))


async def test_a_master_of_the_data_plane_dies_and_then_that_of_the_control_plane(
    cluster: Replicated, platform: Platform, packed: Any
) -> None:
    names = spread(platform)
    await served(platform, packed, names)
    asking = Requests(platform, names)
    control = stream_key(platform.namespace, PipelineDeclared.type_name())
    settings = platform.settings(ServingSettings)
    running = asyncio.create_task(build(settings).run(asyncio.Event()))
    await asking.ask(50)
    await asking.answered()
    await asking.ask(50)  # some of them are on their way now
    await killed(cluster, platform, requests_of(platform, names[1]))
    await asking.ask(50)
    await asking.answered()
    await killed(cluster, platform, control)
    async with asyncio.timeout(120):
        assert await running == 1  # so that whoever supervises it starts it again
    async with platform.running(build(settings)):
        await asking.ask(50)
        await asking.answered()
