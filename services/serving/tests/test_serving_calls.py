"""A slow model computes in threads of its own, however many of them there are; a quick one goes on in the loop."""

import asyncio
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from tidemill_serving.batching import Batcher
from tidemill_serving.calls import Calls
from tidemill_serving.domain.features import Layout, Matrices
from tidemill_serving.domain.model import Model, Predictions

LAYOUT = Layout(("height", "weight"), ("colour",), None)
ROW = Matrices(np.zeros((1, 2), np.float32), np.full((1, 1), "red", object))
Make = Callable[..., Model]


@pytest.fixture
def make(make_onnx: Callable[[float], bytes]) -> Make:
    """A model, or one of a class of models."""
    return lambda kind=Model: kind(make_onnx(0.0), LAYOUT, task="classification", classes=(0, 1))


def compute(seconds: float) -> str:
    """What a slow model does."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return threading.current_thread().name


async def test_a_model_that_computes_for_long_leaves_the_loop_until_it_is_quick_again(make: Make) -> None:
    calls, model = Calls(), make()
    assert not calls.inline(model, 0.1)  # nobody knows it yet
    assert (await calls.apart(model, 0.1, compute, 0.02)).startswith("slow-model")
    assert not calls.inline(model, 0.1)
    assert (await calls.apart(model, 0.1, compute, 0.0)).startswith("slow-model")  # once is not enough
    for _ in range(10):
        await calls.apart(model, 0.1, compute, 0.0)
    assert calls.inline(model, 1.0) and not calls.inline(model, 1.1)
    assert (await calls.apart(model, 1.1, compute, 0.0)).startswith("model")
    assert calls.here(model, 0.1, compute, 0.02) == threading.current_thread().name
    assert not calls.inline(model, 0.1)


async def test_a_call_of_many_rows_is_not_held_against_a_model(make: Make) -> None:
    calls, model = Calls(), make()
    await calls.apart(model, 100.0, compute, 0.02)
    assert calls.inline(model, 0.1)
    assert calls.inline(None, 0.1)


async def test_however_many_models_are_slow_a_quick_one_answers_over_http(make: Make) -> None:
    calls, free, waiting = Calls(), threading.Event(), threading.Semaphore(0)

    class Slow(Model):
        def predict(self, rows: Matrices) -> Predictions:
            waiting.release()
            assert free.wait(120)
            return super().predict(rows)

    quick, slow = make(), [make(Slow) for _ in range(40)]  # more than there are common threads
    batcher = Batcher(calls)
    try:
        asked = [asyncio.create_task(batcher.predict(model, ROW)) for model in slow]
        for _ in asked:
            assert await asyncio.to_thread(waiting.acquire, timeout=60)
        for _ in range(3):
            async with asyncio.timeout(60):
                await batcher.predict(quick, ROW)
        assert not any(task.done() for task in asked)
    finally:
        free.set()
    await asyncio.gather(*asked)
