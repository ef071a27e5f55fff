"""A pipeline counts as known once everybody here who must know it does."""

import pytest

from tidemill_contracts.events import PipelineDeclared
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_shared.errors import Retryable
from tidemill_shared.pipelines import Pipelines, store_pipeline
from tidemill_shared.testing.platform import Platform


async def test_a_pipeline_that_could_not_be_taken_on_is_taken_on_the_next_time(platform: Platform) -> None:
    pipelines = Pipelines(platform.store)
    told: list[str] = []

    async def listener(name: str) -> None:
        told.append(name)
        if len(told) in (1, 3):
            raise Retryable("Redis is away")

    pipelines.on_change(listener)
    spec = PipelineSpec(name="demo", task="classification", target="y", primary="accuracy")
    first = await store_pipeline(platform.store, spec)
    event = PipelineDeclared.root(first, subject="demo", source="urn:x")
    with pytest.raises(Retryable):
        await pipelines.on_pipeline_declared(event)
    assert pipelines.names() == []
    await pipelines.on_pipeline_declared(event)
    assert pipelines.names() == ["demo"]
    second = await store_pipeline(platform.store, spec.model_copy(update={"revision": spec.revision + 1}))
    with pytest.raises(Retryable):
        await pipelines.on_pipeline_declared(PipelineDeclared.root(second, subject="demo", source="urn:x"))
    known = await pipelines.spec("demo")
    assert known is not None
    assert known.revision == spec.revision
