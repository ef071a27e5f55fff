"""A batch answered in steps gets the answers it would get in one go, and leaves the loop to others in between."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.events import PredictionRequested, PredictionsRequested
from tidemill_contracts.prediction import RequestedPrediction, RequestedPredictions
from tidemill_contracts.streams import stream_key
from tidemill_serving.answering import Answering
from tidemill_serving.domain.features import Layout
from tidemill_serving.domain.model import Model
from tidemill_serving.loading import Loaded
from tidemill_serving.work import Work
from tidemill_shared.delivery import Completion, Delivery

LAYOUT = Layout(("height", "weight"), ("colour",), {"colour": frozenset({"red", "green"})})
ROWS: list[Any] = [
    {"height": 1.0, "weight": None, "colour": "green"},
    {"height": 2, "weight": 7.5, "colour": None},
    {"height": 3.0, "weight": 1.0, "colour": "mauve"},
    {"height": 4.0},
]


class Champion:
    """The same model for every pipeline, or none, and nothing beside it."""

    def __init__(self, loaded: Loaded | None) -> None:
        self._loaded = loaded

    async def ensure(self, _: str) -> Loaded | None:
        """As ``Models`` does."""
        return self._loaded

    def beside(self, *_: object) -> None:
        """As ``Rollouts`` does."""


@pytest.fixture
def loaded(make_onnx: Callable[[float], bytes]) -> Loaded:
    model = Model(make_onnx(0.3), LAYOUT, task="classification", classes=("no", "yes"))
    return Loaded(model, "a" * 12, "b" * 12, 1, ArtifactRef(key="k", sha256="0" * 64, size=1))


def delivery(number: int, type_: str, body: bytes) -> Delivery:
    return Delivery(stream_key("test", type_, "sales"), type_, f"{number}-0", body)


def row(number: int, features: Any) -> Delivery:
    data = RequestedPrediction(features=features)
    event = PredictionRequested.root(data, id=f"r-{number}", subject="sales", source="urn:test")
    return delivery(number, event.type, event.to_json())


def table(number: int, colours: tuple[str | None, ...]) -> Delivery:
    n = len(colours)
    columns: dict[str, Any] = {"height": (1.0,) * n, "weight": (None,) * n, "colour": colours}
    data = RequestedPredictions(ids=tuple(f"t-{number}-{i}" for i in range(n)), columns=columns)
    event = PredictionsRequested.root(data, id=f"t-{number}", subject="sales", source="urn:test")
    return delivery(number, event.type, event.to_json())


def batch(count: int) -> list[Delivery]:
    """Requests good and bad, and a table and something that is no request at every fiftieth; from 300 on plain rows,
    but for one with a category that the model does not know."""
    found: list[Delivery] = []
    for i in range(count):
        if i >= 300:
            found.append(row(i, {"height": i / 100, "weight": None, "colour": "mauve" if i == 500 else "red"}))
            continue
        found.append(row(i, ROWS[i % 97 % len(ROWS)] if i % 97 < len(ROWS) else ROWS[i % 2]))
        if i % 50 == 0:
            found.append(table(count + i, ("red", "blue", None)[: 1 + i % 3]))
            found.append(delivery(2 * count + i, PredictionRequested.type_name(), b"no request"))
    return found


def plain(completion: Completion) -> tuple[Any, ...]:
    assert completion.once is not None
    outputs = [(d.entry, [*out]) for d, out in completion.outputs]
    dead = [(d.entry, code) for d, code, _ in completion.dead]
    return sorted(zip(outputs, completion.once.ids, strict=True)), dead


@pytest.mark.parametrize("model", [True, False])
async def test_in_steps_or_at_once_the_answers_are_the_same(loaded: Loaded, model: bool) -> None:
    champion: Any = Champion(loaded if model else None)
    asked = batch(700)
    whole = Work("sales", "test", loaded if model else None).complete(asked, 60.0)
    stepwise = await Answering(champion, champion, "test", 60.0).on_batch("sales", asked)
    assert plain(stepwise) == plain(whole)
    assert len(stepwise.outputs) + len(stepwise.dead) == len(asked)
    rows = [out for d, out in stepwise.outputs if d.type == PredictionRequested.type_name()]
    assert {stream.rpartition(":")[2] for ((stream, _),) in rows} == (
        {"prediction.completed.v1", "prediction.failed.v1"} if model else {"prediction.failed.v1"}
    )


async def test_others_have_their_turns_while_a_large_batch_is_read(loaded: Loaded) -> None:
    champion: Any = Champion(loaded)
    answering, turns, asked = Answering(champion, champion, "test", 60.0), 0, batch(1_000)

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    first, second = await asyncio.gather(answering.on_batch("sales", asked), answering.on_batch("sales", batch(3)))
    beside.cancel()
    assert turns >= len(asked) // 128
    assert len(first.outputs) + len(first.dead) == len(asked)
    assert len(second.outputs) + len(second.dead) == 5
