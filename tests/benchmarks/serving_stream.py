"""Predictions per second of one serving process on real Redis, beside the same loop without validation and model.

    python tests/benchmarks/serving_stream.py [--events 40000] [--runs 7] [--peers] [--latency]

20 numeric and 5 categorical columns, one-hot, 100 boosting iterations. The streams are filled first; then one bus
reads, answers and acknowledges all of it, by the same lanes, the same handler and the same fenced completion step as in
the service. The no-model loop does all of that but leaves the requests unread: their answers were made beforehand. What
it asks of Redis is the same, to the byte. A cheaper one has a single answer for all (which Redis's Lua then keeps once,
rather than copying each) and remembers no ids. They take turns; what is printed are medians over the turns, of rates
and of the ratios within each. Prints where the time goes; the last line is one JSON object. Rates depend on the machine
and its other work: trust the ratios.
"""

import argparse
import asyncio
import contextlib
import functools
import itertools
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import serving_latency
import serving_peers
from pydantic import SecretStr
from sklearn.ensemble import HistGradientBoostingClassifier

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import (
    PredictionCompleted,
    PredictionRequested,
    PredictionsCompleted,
    PredictionsRequested,
)
from tidemill_contracts.prediction import RequestedPrediction
from tidemill_contracts.streams import state_key, stream_key
from tidemill_packaging.domain.conversion import convert
from tidemill_serving.answering import Answering
from tidemill_serving.domain.features import Layout, stacked
from tidemill_serving.domain.model import Model
from tidemill_serving.garbage import look_rarely
from tidemill_serving.loading import Loaded
from tidemill_serving.rows import Rows, answers
from tidemill_serving.settings import ServingGroup
from tidemill_shared.bus import Bus
from tidemill_shared.delivery import Completion, Delivery, Once
from tidemill_shared.settings import RedisSettings
from tidemill_shared.testing.servers import Servers, local_servers
from tidemill_training.domain.preprocessing import assemble

NUMERIC = tuple(f"number_{i}" for i in range(20))
CATEGORICAL = tuple(f"kind_{i}" for i in range(5))
LEVELS = tuple("abcdefgh")
PIPELINE, BATCH, ONCE_SECONDS = "benchmark", ServingGroup().max_batch, 3600.0
PART = 64
"""Requests read in one go: of these the service takes as many as fit into 64 KiB."""
OnBatch = Callable[[str, list[Delivery]], Awaitable[Completion]]


class Models:
    """Stands for the registry of loaded models."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    async def ensure(self, _: str) -> Loaded:
        """The one model."""
        return self._loaded

    def beside(self, _pipeline: str, _champion: Loaded | None, _batch: list[Delivery]) -> None:
        """Nothing is tried beside it."""


def table(rows: int, seed: int) -> pd.DataFrame:
    """Random rows in the model's layout."""
    random = np.random.default_rng(seed)
    columns = {name: random.normal(size=rows).astype(np.float32) for name in NUMERIC}
    return pd.DataFrame(columns | {name: random.choice(LEVELS, rows).astype(object) for name in CATEGORICAL})


class Bench(NamedTuple):
    """The model as bytes and as the service holds it."""

    onnx: bytes
    loaded: Loaded


def fit(iterations: int = 100) -> Bench:
    """Fit, convert and load."""
    x = table(5_000, seed=0)
    y = (x[NUMERIC[0]] * x[NUMERIC[1]] + (x[CATEGORICAL[0]] == "a") > 0).astype(int)
    boosting = HistGradientBoostingClassifier(max_iter=iterations, early_stopping=False, random_state=0)
    fitted = assemble("hist_gradient_boosting", boosting, len(NUMERIC), [list(LEVELS)] * len(CATEGORICAL)).fit(x, y)
    onnx = convert(fitted, numeric=len(NUMERIC), categorical=len(CATEGORICAL), classify=True, opset=18)
    layout = Layout(NUMERIC, CATEGORICAL, {name: frozenset(LEVELS) for name in CATEGORICAL})
    model = Model(onnx, layout, task="classification", classes=(0, 1), positive=1)
    return Bench(onnx, Loaded(model, "0" * 12, "1" * 12, 1, ArtifactRef(key="none", sha256="0" * 64, size=0)))


def request_bodies(count: int, pipeline: str = PIPELINE) -> list[bytes]:
    """Encoded requests, as a producer would send them."""
    return [
        PredictionRequested.root(
            RequestedPrediction(features=row), id=str(uuid.uuid4()), subject=pipeline, source="urn:benchmark"
        ).to_json()
        for row in table(count, seed=1).to_dict("records")
    ]


class Ready(NamedTuple):
    """A prediction id, and the answer to it."""

    id: str
    answer: bytes


def beforehand(loaded: Loaded, bodies: list[bytes]) -> list[Ready]:
    """What serving would answer."""
    found = []
    for at in range(0, len(bodies), BATCH):
        requests = [loaded.reader.read(body, PIPELINE) for body in bodies[at : at + BATCH]]
        for request, answer in zip(requests, answers(requests, loaded), strict=True):
            assert isinstance(answer, bytes)
            found.append(Ready(request.id, answer))
    return found


def no_model(namespace: str, ready: list[Ready]) -> OnBatch:
    """The next answers, remembered as given, without a look at the requests."""
    stream, left = stream_key(namespace, PredictionCompleted.type_name(), PIPELINE), iter(ready)
    key = state_key(namespace, "serving", "answered", PIPELINE)

    async def on_batch(_: str, batch: list[Delivery]) -> Completion:
        given = list(itertools.islice(left, len(batch)))
        outputs = [(delivery, [(stream, each.answer)]) for delivery, each in zip(batch, given, strict=True)]
        return Completion(outputs=outputs, once=Once(key, tuple([each.id for each in given]), ONCE_SECONDS))

    return on_batch


def one_answer(namespace: str, answer: bytes) -> OnBatch:
    """The same answer to all of them, and nothing is remembered."""
    stream = stream_key(namespace, PredictionCompleted.type_name(), PIPELINE)

    async def on_batch(_: str, batch: list[Delivery]) -> Completion:
        return Completion(outputs=[(delivery, [(stream, answer)]) for delivery in batch])

    return on_batch


async def drain(
    servers: Servers, bodies: list[bytes], handler: Callable[[str], OnBatch], *, tables: bool = False
) -> float:
    """Events per second from a filled stream to the last answer. Raises RuntimeError when some went missing."""
    namespace = f"bench-{uuid.uuid4().hex[:8]}"
    redis = RedisSettings(url=servers.redis_url, password=SecretStr(servers.redis_password))
    bus = Bus("serving", redis, namespace=namespace)
    asked, told = (PredictionsRequested, PredictionsCompleted) if tables else (PredictionRequested, PredictionCompleted)
    bus.lanes([asked], handler(namespace), max_records=BATCH, ahead=True)
    await bus.connect()
    requests, completed = (stream_key(namespace, kind.type_name(), PIPELINE) for kind in (asked, told))
    for at in range(0, len(bodies), 1_000):
        pipeline = bus.redis.pipeline(transaction=False)
        for body in bodies[at : at + 1_000]:
            pipeline.xadd(requests, {FIELD: body})
        await pipeline.execute()
    await bus.serve(PIPELINE)
    with serving_peers.undisturbed(servers):
        started = time.perf_counter()
        await bus.start()
        while await bus.redis.xlen(completed) < len(bodies):
            if time.perf_counter() - started > 60:
                raise RuntimeError(f"{await bus.redis.xlen(completed)} of {len(bodies)} answered after a minute")
            await asyncio.sleep(0.01)
        seconds = time.perf_counter() - started
    left = (await bus.redis.xpending(requests, "serving"))["pending"]
    if left or await bus.redis.xlen(completed) != len(bodies):
        raise RuntimeError(f"{left} pending, {await bus.redis.xlen(completed)} answers")
    await bus.redis.delete(requests, completed)
    await bus.stop()
    return len(bodies) / seconds


def parts(loaded: Loaded, bodies: list[bytes]) -> dict[str, float]:
    """Microseconds an event of each step in batches of BATCH, without Redis."""
    batches = [bodies[at : at + BATCH] for at in range(0, len(bodies), BATCH)]
    spent = dict.fromkeys(("decode", "matrices", "model", "encode"), 0.0)
    for batch in batches:
        rows = Rows(loaded)
        for at in range(0, len(batch), PART):
            begun = time.perf_counter()
            plain = loaded.reader.read_all(batch[at : at + PART], PIPELINE)
            assert plain is not None
            read = time.perf_counter()
            rows.take(*plain)
            spent["decode"] += read - begun
            spent["matrices"] += time.perf_counter() - read
        marks = [time.perf_counter()]
        inputs = stacked(rows.inputs)
        marks.append(time.perf_counter())
        predictions = loaded.model.predict(inputs)
        marks.append(time.perf_counter())
        rows.answers(predictions)
        marks.append(time.perf_counter())
        for name, (a, b) in zip(("matrices", "model", "encode"), itertools.pairwise(marks), strict=True):
            spent[name] += b - a
    return {name: seconds / len(bodies) * 1e6 for name, seconds in spent.items()}


def measured(
    servers: Servers, bench: Bench, bodies: list[bytes], runs: int, python: Path | None
) -> dict[str, list[float]]:
    """Events per second of the limits, of ours and, with their interpreter, of the peers, taking turns."""
    loaded = bench.loaded
    ready = beforehand(loaded, bodies)
    answer = ready[0].answer
    print(f"requests of {len(bodies[0])} bytes, answers of {len(answer)} bytes")
    rates: dict[str, list[float]] = {}
    for _ in range(runs):
        turn = {
            "redis_py_loop": serving_peers.bare_loop(servers, bodies, answer),
            "own_loop_one_answer": asyncio.run(drain(servers, bodies, lambda n: one_answer(n, answer))),
            "own_loop_no_model": asyncio.run(drain(servers, bodies, lambda n: no_model(n, ready))),
            "serving": asyncio.run(drain(servers, bodies, lambda n: answering(loaded, n).on_batch)),
        }
        if python:
            peer = functools.partial(
                serving_peers.faststream, python, servers, numeric=NUMERIC, categorical=CATEGORICAL
            )
            turn["faststream_onnx_batch"] = asyncio.run(peer(bodies=bodies, onnx=bench.onnx))
            turn["faststream_sklearn"] = asyncio.run(peer(bodies=bodies[:200], onnx=None))
        for name, rate in turn.items():
            rates.setdefault(name, []).append(rate)
        print("   ".join(f"{name} {rate:,.0f}/s" for name, rate in turn.items()), flush=True)
    return rates


def latency_at(rate: int, bodies: list[bytes]) -> dict[str, float]:
    """Percentiles on a Redis of its own: one that rewrites its log of the runs before is another measurement."""
    ids = [json.loads(body)["id"] for body in bodies]
    with tempfile.TemporaryDirectory() as folder, local_servers(Path(folder)) as servers:
        return serving_latency.percentiles(servers.redis_url, servers.redis_password, bodies, ids, rate)


def answering(loaded: Loaded, namespace: str) -> Answering:
    """The service's handler around one model."""
    models = Models(loaded)
    return Answering(models, models, namespace, ONCE_SECONDS)  # type: ignore[arg-type]


def figures(
    rates: dict[str, list[float]], latency: dict[str, dict[str, float]], steps: dict[str, float]
) -> dict[str, Any]:
    """Medians of the turns, and of ours over each of the others in the same turn."""
    middle = {name: statistics.median(values) for name, values in rates.items()}
    ratios = {
        name: statistics.median([ours / other for ours, other in zip(rates["serving"], values, strict=True)])
        for name, values in rates.items()
        if name != "serving"
    }
    return {
        "events_per_second": {name: round(rate, 1) for name, rate in middle.items()},
        "ratio_to": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "latency_ms": latency,
        "microseconds": {name: round(value, 2) for name, value in steps.items()},
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--peers", action="store_true", help="FastStream handlers too, installed in .peers")
    parser.add_argument("--latency", action="store_true", help="percentiles at 2 000 and 10 000 events/s too")
    parser.add_argument("--serve", nargs=2, metavar=("NAMESPACE", "URL"), help=argparse.SUPPRESS)
    arguments, _ = parser.parse_known_args()
    bench = fit()
    loaded = bench.loaded
    asyncio.run(look_rarely())  # as the service does
    if arguments.serve:
        namespace, url = arguments.serve
        asyncio.run(serving_latency.serve(namespace, url, answering(loaded, namespace).on_batch, BATCH))
        return
    bodies = request_bodies(arguments.events)
    python = serving_peers.environment() if arguments.peers else None
    latency: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = stack.enter_context(local_servers(Path(folder)))
        rates = measured(servers, bench, bodies, arguments.runs, python)
    for rate, seconds in ((2_000, 4), (10_000, 3)) if arguments.latency else ():
        found = latency_at(rate, bodies[: rate * seconds])
        print(f"{rate:,} events/s: " + ", ".join(f"{name} {value} ms" for name, value in found.items()), flush=True)
        latency[str(rate)] = found
    steps = parts(loaded, bodies)
    print("microseconds an event: " + ", ".join(f"{name} {value:.1f}" for name, value in steps.items()))
    print(json.dumps(figures(rates, latency, steps)))


if __name__ == "__main__":
    main()
