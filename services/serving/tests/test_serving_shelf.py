"""Many pipelines within a budget: who leaves, and that nobody who asks notices."""

from collections.abc import Callable
from typing import Any

import pytest

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.events import ModelDeployed, PredictionCompleted, PredictionFailed, PredictionRequested
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_serving.app import build
from tidemill_serving.domain.features import Layout
from tidemill_serving.domain.model import Model
from tidemill_serving.loading import Loaded
from tidemill_serving.settings import ServingGroup, ServingSettings
from tidemill_serving.shelf import Shelf, weight
from tidemill_shared.testing.platform import Platform

LAYOUT = Layout(("height", "weight"), ("colour",), None)


@pytest.fixture
def load(make_onnx: Callable[[float], bytes]) -> Callable[[int], Loaded]:
    def call(number: int) -> Loaded:
        model = Model(make_onnx(0.3), LAYOUT, task="classification", classes=("no", "yes"))
        manifest = ArtifactRef(key=f"{number}", sha256=f"{number:064}", size=1)
        return Loaded(model, f"{number:012}", "0123456789ab", number, manifest)

    return call


def kept(shelf: Shelf, *pipelines: str) -> list[str]:
    """Those with a model, looked at without using them."""
    return [p for p in pipelines if p in shelf._present]


def test_previous_models_leave_first_then_what_was_idle_for_longest(load: Callable[[int], Loaded]) -> None:
    one = load(1)
    shelf = Shelf(3 * weight(one))
    shelf.put("a", one)
    shelf.put("a", load(2))
    shelf.put("b", load(3))
    assert shelf.previous("a") is one
    shelf.put("c", load(4))
    assert (shelf.previous("a"), kept(shelf, "a", "b", "c")) == (None, ["a", "b", "c"])
    assert shelf.present("a")  # used: now b is idle for longest
    shelf.put("d", load(5))
    assert kept(shelf, "a", "b", "c", "d") == ["a", "c", "d"]
    assert (shelf.resting("b"), shelf.resting("a")) == (True, False)
    shelf.put("b", load(3))
    assert not shelf.resting("b")
    assert kept(shelf, "a", "b", "c", "d") == ["a", "b", "d"]


def test_the_one_in_use_stays_whatever_its_size(load: Callable[[int], Loaded]) -> None:
    shelf = Shelf(1)
    shelf.put("a", load(1))
    assert shelf.present("a")
    assert shelf.full
    shelf.put("b", load(2))
    assert kept(shelf, "a", "b") == ["b"]


async def test_more_pipelines_than_there_is_room_for(platform: Platform, spec: PipelineSpec, promote: Any) -> None:
    names = ("sales", "returns", "visits")
    group = ServingGroup(model_bytes=1024**2)
    async with platform.running(build(platform.settings(ServingSettings, serving=group))):
        for name in names:
            await platform.declare(spec.model_copy(update={"name": name}))
            promoted = await promote(1, pipeline=name)
            await platform.publish(promoted)
            await platform.wait_for(ModelDeployed, lambda e, name=name: e.pipeline == name)
        for turn in range(3):
            for name in names:
                id_ = f"{name}-{turn}"
                row = RequestedPrediction(features={"height": 1.0, "weight": None, "colour": "red"})
                await platform.publish(PredictionRequested.root(row, id=id_, subject=name, source="urn:test"))
                found = await platform.wait_for(
                    PredictionCompleted, lambda e, id_=id_: e.data.prediction_id == id_, pipeline=name
                )
                assert found.data.prediction == "yes"
    for name in names:
        assert await platform.events(PredictionFailed, name) == []
