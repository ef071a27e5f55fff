"""A pipeline counts as known once everybody here who must know it does."""

from pathlib import Path

import pytest

from tidemill_contracts.events import PipelineDeclared
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_shared.errors import Retryable
from tidemill_shared.pipelines import Pipelines, store_pipeline
from tidemill_shared.settings import Settings
from tidemill_shared.store import Store
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


def spec(name: str, revision: int = 1) -> PipelineSpec:
    return PipelineSpec(name=name, revision=revision, task="classification", target="y", primary="accuracy")


async def test_many_are_read_and_told_of_together(platform: Platform) -> None:
    for name in ("a", "b", "c"):
        await store_pipeline(platform.store, spec(name))
    await store_pipeline(platform.store, spec("b", revision=2))
    told: list[tuple[str, ...]] = []

    async def listener(*names: str) -> None:
        told.append(names)
        if len(told) == 1:
            raise Retryable("Redis is away")

    pipelines = Pipelines(platform.store)
    pipelines.on_change(listener)
    with pytest.raises(Retryable):
        await pipelines.load()
    assert pipelines.names() == []
    await pipelines.load()
    assert [sorted(names) for names in told] == [["a", "b", "c"]] * 2
    known = await pipelines.spec("b")
    assert known is not None and known.revision == 2


async def test_a_start_reads_revisions_from_the_local_cache_unless_they_were_changed(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        await store_pipeline(platform.store, spec(name))
    asked: list[str] = []
    read = Store.read

    async def counted(store: Store, key: str) -> bytes | None:
        asked.append(key)
        return await read(store, key)

    monkeypatch.setattr(Store, "read", counted)
    settings = platform.settings(Settings).store.model_copy(update={"cache_directory": tmp_path / "cache"})

    async def start() -> list[str]:
        asked.clear()
        store = Store(settings)
        pipelines = Pipelines(store)
        await pipelines.load()
        store.close()
        return pipelines.names()

    assert (await start(), len(asked)) == (["a", "b"], 2)
    assert (await start(), len(asked)) == (["a", "b"], 0)
    next((tmp_path / "cache").glob("??/*")).write_bytes(b"{}")
    assert (await start(), len(asked)) == (["a", "b"], 1)
