"""The benchmarks of serving run, with so few events that their figures say nothing: here they only must not rot."""

import argparse
import asyncio
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tidemill_shared.testing.servers import Servers

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
EVENTS = 600


@pytest.fixture(scope="module")
def stream() -> Iterator[Any]:
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("serving_stream")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def bench(stream: Any) -> Any:
    return stream.fit(iterations=3)


def test_the_stream_is_measured_beside_its_limits(servers: Servers, stream: Any, bench: Any) -> None:
    bodies = stream.request_bodies(EVENTS)
    rates = stream.measured(servers, bench, bodies, 1, None)
    assert rates.keys() == {"redis_py_loop", "own_loop_no_model", "serving"}
    assert all(len(of) == 1 and of[0] > 0 for of in rates.values())
    assert stream.parts(bench.loaded, bodies).keys() == {"decode", "matrices", "model", "encode"}


def test_latency_is_measured_on_a_server_of_its_own(servers: Servers, stream: Any) -> None:
    bodies = stream.request_bodies(300)
    ids = [json.loads(body)["id"] for body in bodies]
    latency = importlib.import_module("serving_latency")
    found = latency.percentiles(servers.redis_url, servers.redis_password, bodies, ids, 200)
    assert 0 < found["p50"] <= found["p99"] <= found["worst"]


def test_tables_are_measured(servers: Servers, stream: Any, bench: Any) -> None:
    tables = importlib.import_module("serving_tables")
    bodies = tables.tables(20, 10)
    rate = asyncio.run(stream.drain(servers, bodies, lambda n: stream.answering(bench.loaded, n).on_batch, tables=True))
    assert rate > 0 and tables.bare(bench.loaded, seconds=0.05) > 0


def test_the_cost_of_delivery_is_measured(servers: Servers, stream: Any) -> None:
    cost = importlib.import_module("delivery_cost")
    found = asyncio.run(cost.measure(servers, EVENTS, 1))
    assert all(found[f"{name}_ratio"] > 0 for name in ("pipeline", "fenced", "once"))


def test_http_is_measured_beside_a_bare_app(stream: Any, bench: Any, tmp_path: Path) -> None:
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(bench.onnx)
    options = argparse.Namespace(seconds=0.2, runs=1, connections=4)
    found = importlib.import_module("http_infer").measure(options, onnx)
    assert found["single_to_bare"] > 0 and found["open_loop_at_0.7"]["p99_ms"] > 0
