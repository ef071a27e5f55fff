"""A pipeline that is flooded, or whose model is slow, does not keep a quiet one beside it waiting.

Counted by the order in which answers were written, never by a clock.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import PredictionCompleted, PredictionRequested
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_contracts.streams import stream_key
from tidemill_serving.app import build
from tidemill_serving.settings import ServingGroup, ServingSettings
from tidemill_shared.service import Service
from tidemill_shared.testing.platform import Platform

ROW: dict[str, Any] = {"height": 1.0, "weight": None, "colour": "green"}
TENSORS: list[dict[str, Any]] = [
    {"name": "numeric", "datatype": "FP32", "shape": [1, 2], "data": [1.0, None]},
    {"name": "categorical", "datatype": "BYTES", "shape": [1, 1], "data": ["green"]},
]
BATCH = 32
AHEAD = 20 * BATCH
"""Answers of a flooded pipeline between a quiet request and its answer, at most: what was in flight and in the waiting
room when it came (seven batches), and what is answered until it is looked for."""
BACKLOG = 2_000
FLOOD = 1_000_000
"""Requests at most, whatever happens: Redis keeps them all."""
ASKED = 20


def request(pipeline: str, id_: str) -> PredictionRequested:
    return PredictionRequested.root(RequestedPrediction(features=ROW), id=id_, subject=pipeline, source="urn:test")


async def add(platform: Platform, pipeline: str, *ids: str) -> bytes:
    """Ask; the place of the last request in its stream."""
    stream = stream_key(platform.namespace, PredictionRequested.type_name(), pipeline)
    pipe = platform.redis.pipeline(transaction=False)
    for id_ in ids:
        pipe.xadd(stream, {FIELD: request(pipeline, id_).to_json()})
    return (await pipe.execute())[-1]


def answers_of(platform: Platform, pipeline: str) -> str:
    return stream_key(platform.namespace, PredictionCompleted.type_name(), pipeline)


async def answered(platform: Platform, pipeline: str, count: int) -> bytes:
    """Wait for so many answers; the place of the last one."""
    async with asyncio.timeout(120):
        while await platform.redis.xlen(answers_of(platform, pipeline)) < count:
            await asyncio.sleep(0.005)
    return (await platform.redis.xrange(answers_of(platform, pipeline), count=count))[-1][0]


@asynccontextmanager
async def serving(platform: Platform, spec: PipelineSpec, promote: Any, **biases: float) -> AsyncIterator[Service]:
    """One process for several pipelines."""
    for name, bias in biases.items():
        await platform.declare(spec.model_copy(update={"name": name}))
        await promote(1, pipeline=name, bias=bias)
    service = build(platform.settings(ServingSettings, serving=ServingGroup(max_batch=BATCH)))
    async with platform.running(service):
        yield service


@asynccontextmanager
async def flooded(platform: Platform, pipeline: str) -> AsyncIterator[None]:
    """A pipeline in which many requests wait, and are replaced as they are answered."""

    async def keep() -> None:
        sent = 0
        while sent < FLOOD:
            short = BACKLOG - await waiting(platform, pipeline)
            if short > BACKLOG // 4:
                await add(platform, pipeline, *[f"f-{sent + i}" for i in range(short)])
                sent += short
            await asyncio.sleep(0.005)

    keeping = asyncio.create_task(keep())
    try:
        yield
        assert not keeping.done()
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def waiting(platform: Platform, pipeline: str) -> int:
    """Requests without an answer."""
    asked = stream_key(platform.namespace, PredictionRequested.type_name(), pipeline)
    found: int = await platform.redis.xlen(asked) - await platform.redis.xlen(answers_of(platform, pipeline))
    return found


async def test_a_quiet_pipeline_waits_for_a_bounded_number_of_a_floods_requests(
    platform: Platform, spec: PipelineSpec, promote: Any
) -> None:
    overtaken: list[int] = []
    async with serving(platform, spec, promote, quiet=0.0, busy=0.0), flooded(platform, "busy"):
        for i in range(ASKED):
            async with asyncio.timeout(120):
                while await waiting(platform, "busy") < BACKLOG // 2:
                    await asyncio.sleep(0.005)
            at = await add(platform, "quiet", f"q-{i}")
            until = await answered(platform, "quiet", i + 1)
            between = await platform.redis.xrange(answers_of(platform, "busy"), f"({at.decode()}", until.decode())
            overtaken.append(len(between))
    assert max(overtaken) <= AHEAD < BACKLOG // 2, overtaken


async def test_slow_models_hold_up_no_other_in_the_stream_or_over_http(
    platform: Platform, spec: PipelineSpec, promote: Any, gate: Any
) -> None:
    slow = {f"slow-{i}": -9.0 for i in range(3)}
    async with serving(platform, spec, promote, quiet=9.0, **slow) as service, httpx.AsyncClient(timeout=60) as client:
        at = f"http://127.0.0.1:{service.port}/v2/models"
        gate.close()
        for name in slow:
            await add(platform, name, *[f"s-{i}" for i in range(3 * BATCH)])
        asking = [asyncio.create_task(client.post(f"{at}/{name}/infer", json={"inputs": TENSORS})) for name in slow]
        for i in range(ASKED):
            await add(platform, "quiet", f"q-{i}")
            await answered(platform, "quiet", i + 1)
            assert (await client.post(f"{at}/quiet/infer", json={"inputs": TENSORS})).status_code == 200
        early = [await platform.redis.xlen(answers_of(platform, name)) for name in slow]
        assert (early, [task.done() for task in asking]) == ([0] * 3, [False] * 3)
        gate.open()
        for name in slow:
            await answered(platform, name, 3 * BATCH)
        assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200] * 3
