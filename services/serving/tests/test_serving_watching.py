"""A watch whose former model cannot be had."""

from collections.abc import Callable
from typing import Any

import pytest

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.events import RolloutObserved
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.rollout import RolloutPolicy
from tidemill_serving.app import build
from tidemill_serving.domain.features import Layout
from tidemill_serving.domain.model import Model
from tidemill_serving.loading import Loaded
from tidemill_serving.patience import Patience
from tidemill_serving.settings import ServingGroup, ServingSettings
from tidemill_serving.watching import Watch, Watches
from tidemill_serving.work import works
from tidemill_shared.errors import ObjectMissing, StoreUnavailable
from tidemill_shared.testing.platform import Platform

HOUR = 3600.0


def loaded(onnx: bytes, sequence: int) -> Loaded:
    model = Model(onnx, Layout(("height", "weight"), ("colour",), None), task="classification", classes=("no", "yes"))
    manifest = ArtifactRef(key=f"{sequence}", sha256=f"{sequence:064}", size=1)
    return Loaded(model, f"{sequence:012}", "0123456789ab", sequence, manifest)


class Former:
    """In the place of the registry: the model before, or what is wrong with it."""

    def __init__(self) -> None:
        self.found: Loaded | Exception = ObjectMissing("get packages/sales/manifest.json: no such object")
        self.asked = 0

    async def before(self, _: str, __: int) -> Loaded | None:
        """As ``Models`` does."""
        self.asked += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class Scene:
    """A watch over the second promotion, and the time."""

    def __init__(self, watches: Watches, watch: Watch, former: Former) -> None:
        self.watches, self.watch, self.former = watches, watch, former
        self.now = 0.0

    async def hours(self, count: int) -> None:
        for _ in range(count):
            self.now += HOUR
            await self.watches.look(self.now)


@pytest.fixture
async def scene(platform: Platform, spec: PipelineSpec, make_onnx: Callable[[float], bytes]) -> Any:
    await platform.declare(spec.model_copy(update={"rollout": RolloutPolicy(watch_rows=10)}))
    group = ServingGroup(observe_seconds=1.0)
    service, former = build(platform.settings(ServingSettings, serving=group)), Former()
    async with platform.running(service):
        watches = Watches(service, former, works(platform.namespace), "a run", group)  # type: ignore[arg-type]
        await watches.start()
        watch = watches.of("sales", loaded(make_onnx(0.3), 2))
        assert watch is not None
        yield Scene(watches, watch, former)


async def test_a_watch_ends_when_the_model_before_is_gone(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    await scene.hours(20)
    assert scene.watch.over
    assert scene.former.asked == 8
    said = [r for r in caplog.records if "promotion" in r.getMessage()]
    assert [r.levelname for r in said] == ["WARNING"] * 7 + ["ERROR"]
    assert "no such object" in vars(said[-1])["why"]


async def test_a_watch_outlives_a_store_that_is_away(
    scene: Scene, platform: Platform, make_onnx: Callable[[float], bytes]
) -> None:
    scene.former.found = StoreUnavailable("get packages/sales/manifest.json: ConnectionRefusedError")
    await scene.hours(20)
    assert scene.former.asked == 20 and not scene.watch.over
    scene.former.found = loaded(make_onnx(0.5), 1)
    scene.watch.asked(scene.watch.present, b"{}")
    await scene.hours(1)
    (seen,) = [e.data for e in await platform.events(RolloutObserved) if e.data.promotion == 2]
    assert (seen.champion.rows, seen.challenger.rows) == (1, 1)


def test_pauses_double_up_to_a_minute_and_start_anew_after_a_success() -> None:
    patience, now, tries = Patience(1.0), 0.0, []
    for _ in range(300):
        if patience.due(now):
            tries.append(now)
            assert not patience.failed(now, lost=False)
        now += 1.0
    assert tries == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]
    patience.succeeded()
    assert patience.due(now)
    assert [patience.failed(now, lost=True) for _ in range(8)] == [False] * 7 + [True]
