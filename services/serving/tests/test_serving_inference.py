"""HTTP requests while a challenger is tried, without a service around them."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from starlette.types import Message

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.rollout import Trial
from tidemill_serving.apart import Apart
from tidemill_serving.domain.features import Layout
from tidemill_serving.domain.model import Model
from tidemill_serving.domain.share import chosen, threshold
from tidemill_serving.inference import Inference
from tidemill_serving.loading import Loaded
from tidemill_serving.settings import ServingGroup
from tidemill_serving.tally import Tally
from tidemill_serving.trying import Running

LAYOUT = Layout(("height", "weight"), ("colour",), None)
CHAMPION, CHALLENGER = "a" * 12, "b" * 12
OBJECT = ArtifactRef(key="k", sha256="0" * 64, size=1)
Load = Callable[[str], Loaded]


@pytest.fixture
def load(make_onnx: Callable[[float], bytes]) -> Load:
    def call(version: str) -> Loaded:
        model = Model(make_onnx(0.3), LAYOUT, task="classification", classes=("no", "yes"))
        return Loaded(model, version, "0123456789ab", 1, OBJECT)

    return call


@pytest.fixture
def running(load: Load) -> Iterator[Running]:
    """A challenger that is asked for half of the requests."""
    trial = Trial(
        pipeline="sales",
        sequence=1,
        stage="canary",
        share=0.5,
        version=CHALLENGER,
        manifest=OBJECT,
        attestation=OBJECT,
        report=OBJECT,
        against=CHAMPION,
        reason="a test",
        cause="cause",
        decided_at=datetime.now(UTC),
    )
    made = Running(trial, load(CHALLENGER), Tally(CHAMPION, ()), Tally(CHALLENGER, ()), Apart(60.0))
    yield made
    made.apart.close()


@pytest.fixture
def inference(load: Load, running: Running) -> Inference:
    """The endpoint with a champion and that challenger."""
    champion = load(CHAMPION)

    async def find(_: str, __: str | None) -> Loaded:
        return champion

    return Inference(find, lambda _, __: running, ServingGroup())


def body(id_: str | None, rows: int = 1) -> bytes:
    tensors = [
        {"name": "numeric", "datatype": "FP32", "shape": [rows, 2], "data": [1.0] * (2 * rows)},
        {"name": "categorical", "datatype": "BYTES", "shape": [rows, 1], "data": ["red"] * rows},
    ]
    return orjson.dumps({"inputs": tensors} | ({} if id_ is None else {"id": id_}))


async def post(inference: Inference, asked: bytes) -> tuple[int, Any]:
    """Status and document."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": asked}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "headers": [], "path_params": {"name": "sales"}}
    await inference(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


def ids(of_challenger: bool, count: int) -> list[str]:
    """Ids that this side answers."""
    found = (f"r-{i}" for i in range(10_000))
    return [id_ for id_ in found if chosen(id_, CHALLENGER, threshold(0.5)) == of_challenger][:count]


class Clocks:
    """Python's, which stand still until they are moved on."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(time, "perf_counter", made)
    monkeypatch.setattr(time, "thread_time", made)
    return made


async def test_what_a_request_waits_for_is_not_the_models_time(
    inference: Inference, running: Running, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour passes while the challenger's thread is busy with the stream, and the champion with a large request."""
    predict, begun, free = Model.predict, threading.Event(), threading.Event()

    def held(model: Model, rows: Any) -> Any:
        if len(rows) == 200:
            begun.set()
            assert free.wait(60)
        return predict(model, rows)

    monkeypatch.setattr(Model, "predict", held)
    theirs, (large, *own) = ids(True, 3), ids(False, 4)
    busy = [
        asyncio.create_task(running.apart.run(free.wait, 60)),
        asyncio.create_task(post(inference, body(large, 200))),
    ]
    await asyncio.to_thread(begun.wait, 60)
    answers = [asyncio.create_task(post(inference, body(id_))) for id_ in theirs + own]
    for _ in range(10):  # turns of the loop: all of them have begun to wait
        await asyncio.sleep(0)
    assert not any(task.done() for task in answers)
    clocks.seconds = 3600.0
    free.set()
    found = await asyncio.gather(*answers)
    await asyncio.gather(*busy)
    assert [document["model_version"] for _, document in found] == [CHALLENGER] * 3 + [CHAMPION] * 3
    challenger, champion = running.challenger.observation(), running.champion.observation()
    assert (challenger.rows, challenger.failed, challenger.calls) == (3, 0, {"0": 3})
    assert (champion.rows, champion.failed, champion.calls["0"]) == (203, 0, 3)  # and the large one took an hour


async def test_a_requests_time_is_its_share_of_the_call(
    inference: Inference, running: Running, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that wait for a busy challenger are answered together: each is no slower for that."""
    predict = Model.predict

    def slow(model: Model, rows: Any) -> Any:
        clocks.seconds += 0.001 * len(rows)
        return predict(model, rows)

    monkeypatch.setattr(Model, "predict", slow)
    await asyncio.gather(*(post(inference, body(id_)) for id_ in ids(True, 8)))
    await post(inference, body(*ids(False, 1)))
    (challenger,), (champion,) = (t.observation().calls.items() for t in (running.challenger, running.champion))
    assert challenger == (champion[0], 8)


@pytest.mark.parametrize("of_challenger", [True, False])
async def test_a_large_body_is_parsed_once_and_beside_the_loop(
    inference: Inference, monkeypatch: pytest.MonkeyPatch, of_challenger: bool
) -> None:
    loads, parsed = orjson.loads, []

    def watched(raw: Any) -> Any:
        parsed.append((len(raw), threading.current_thread() is threading.main_thread()))
        return loads(raw)

    small, large = (body(ids(of_challenger, 1)[0], rows) for rows in (1, 5_000))
    monkeypatch.setattr(orjson, "loads", watched)
    found = [await post(inference, raw) for raw in (small, large)]
    assert [status for status, _ in found] == [200, 200]
    assert parsed == [(len(small), True), (len(large), False)]


@pytest.mark.parametrize("id_", ["", None])
async def test_requests_without_an_id_are_shared_by_chance(inference: Inference, id_: str | None) -> None:
    found = [await post(inference, body(id_)) for _ in range(64)]
    assert {document["model_version"] for _, document in found} == {CHAMPION, CHALLENGER}


async def test_what_is_no_json_is_counted_against_nobody(inference: Inference, running: Running) -> None:
    found, document = await post(inference, b"{")
    assert (found, "not JSON" in document["error"]) == (400, True)
    assert running.challenger.rows == running.champion.rows == 0
