"""Requests that come together go together, and answers find their way back."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tidemill_serving.batching import Batcher
from tidemill_serving.domain.cells import Cells
from tidemill_serving.domain.features import Layout, Matrices
from tidemill_serving.domain.model import Model, Predictions
from tidemill_serving.domain.tensor import BadRequest
from tidemill_serving.reply import Answers

LAYOUT = Layout(("height", "weight"), ("colour",), None)


class Watched(Model):
    """Counts the rows of its calls, and breaks on a row that holds -1."""

    def __init__(self, onnx: bytes) -> None:
        super().__init__(onnx, LAYOUT, task="classification", classes=(0, 1))
        self.calls: list[int] = []

    def predict(self, rows: Matrices) -> Predictions:
        """As the model does."""
        self.calls.append(len(rows))
        if (rows.numeric == -1).any():
            raise ValueError("minus one")
        return super().predict(rows)


def rows(first: int, count: int = 1) -> Matrices:
    numeric = np.arange(first, first + count, dtype=np.float32).repeat(2).reshape(count, 2) / 100
    return Matrices(numeric, np.full((count, 1), "red", object))


@pytest.fixture
def model(make_onnx: Callable[[float], bytes]) -> Watched:
    return Watched(make_onnx(-1.0))


def same(found: Answers, expected: Predictions) -> None:
    assert found.values == expected.values
    assert found.odds is not None
    assert expected.probabilities is not None
    odds = [json.loads(f"[{row}]") for row in found.odds]
    np.testing.assert_allclose(odds, expected.probabilities, rtol=1e-6)


async def test_concurrent_requests_are_one_call_and_a_lone_one_is_not_kept_waiting(model: Watched) -> None:
    batcher = Batcher()
    found = await asyncio.gather(*(batcher.predict(model, rows(i)) for i in range(50)))
    assert model.calls == [50]
    for i, answer in enumerate(found):
        same(answer, model.predict(rows(i)))
    model.calls.clear()
    same(await batcher.predict(model, rows(7)), model.predict(rows(7)))
    assert model.calls == [1, 1]


async def test_calls_are_bounded_and_large_requests_are_answered_too(model: Watched) -> None:
    batcher, sizes = Batcher(), [600, 500, 3, 2000, 1]
    found = await asyncio.gather(*(batcher.predict(model, rows(i, size)) for i, size in enumerate(sizes)))
    assert model.calls == [600, 503, 2000, 1]
    for i, (answer, size) in enumerate(zip(found, sizes, strict=True)):
        same(answer, model.predict(rows(i, size)))


async def test_a_request_that_breaks_the_model_fails_alone(model: Watched) -> None:
    batcher = Batcher()
    found: list[Any] = await asyncio.gather(
        *(batcher.predict(model, rows(i)) for i in (0, -100, 2)), return_exceptions=True
    )
    assert isinstance(found[1], ValueError)
    same(found[0], model.predict(rows(0)))
    same(found[2], model.predict(rows(2)))


async def test_a_request_with_a_row_that_is_refused_fails_alone(make_onnx: Callable[[float], bytes]) -> None:
    layout = Layout(LAYOUT.numeric, LAYOUT.categorical, {"colour": frozenset({"red"})})
    model, batcher = Model(make_onnx(0.0), layout, task="classification", classes=(0, 1)), Batcher()
    good, bad = Cells(1, [1.0, None], ["red"]), Cells(2, [1.0, 2.0, 3.0, 4.0], ["red", "mauve"])
    found: list[Any] = await asyncio.gather(
        *(batcher.predict(model, part) for part in (good, bad, good)), return_exceptions=True
    )
    assert isinstance(found[1], BadRequest)
    assert "row 1" in str(found[1])
    assert found[0][:2] == found[2][:2] == (await batcher.predict(model, good))[:2]


async def test_who_has_gone_away_disturbs_nobody(model: Watched) -> None:
    batcher = Batcher()
    gone = asyncio.create_task(batcher.predict(model, rows(1)))
    stays = asyncio.create_task(batcher.predict(model, rows(2)))
    await asyncio.sleep(0)
    gone.cancel()
    same(await stays, model.predict(rows(2)))
