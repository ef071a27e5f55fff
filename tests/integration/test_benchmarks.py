"""The benchmarks of serving run, with so few events that their figures say nothing: here they only must not rot."""

import argparse
import asyncio
import gc
import importlib
import json
import sys
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tidemill_shared.testing.servers import Servers

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
EVENTS = 600
PEERS = {f"http_single_to_{name}_onnx_batching" for name in ("mlserver", "bentoml")} | {
    "http_single_to_best_product_as_it_comes"
}
OWN_HTTP = {
    f"http_{name}" for name in ("single_to_bare_app", "single_to_constant", "p99_ms_at_0.7", "64_rows_to_bare_app")
}


@pytest.fixture(scope="module")
def stream() -> Iterator[Any]:
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("serving_stream")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def bench(stream: Any) -> Any:
    return stream.fit(iterations=3)


def aimed(part: str, figures: Any, but: Collection[str] = ()) -> None:
    """Every figure of this part that is aimed at is there, and is a number; ``but`` needs more than is run here."""
    aims = importlib.import_module("aims")
    wanted = {aim.name for aim in aims.AIMS if aim.figure[0] == part} - set(but)
    found = aims.judged({part: figures})
    assert wanted and found.keys() == wanted
    assert all(
        isinstance(row["value"], (int, float)) and row.get("met") in (True, False, None) for row in found.values()
    )
    assert len(list(aims.table(found))) == len(found)


def test_the_stream_is_measured_beside_its_limits(servers: Servers, stream: Any, bench: Any) -> None:
    bodies = stream.request_bodies(EVENTS)
    rates = stream.measured(servers, bench, bodies, 1, None)
    assert rates.keys() == {"redis_py_loop", "own_loop_one_answer", "own_loop_no_model", "serving"}
    assert all(len(of) == 1 and of[0] > 0 for of in rates.values())
    steps = stream.parts(bench.loaded, bodies)
    assert steps.keys() == {"decode", "matrices", "model", "encode"}
    late = dict.fromkeys(("2000", "10000"), latency(servers, stream))
    peers = ("stream_to_faststream_sklearn", "stream_to_faststream_onnx_batch")
    aimed("stream", stream.figures(rates, late, steps), but=peers)


def latency(servers: Servers, stream: Any) -> dict[str, float]:
    """By a server in a process of its own."""
    bodies = stream.request_bodies(300)
    ids = [json.loads(body)["id"] for body in bodies]
    measure = importlib.import_module("serving_latency").percentiles
    found: dict[str, float] = measure(servers.redis_url, servers.redis_password, bodies, ids, 200)
    assert 0 < found["p50"] <= found["p99"] <= found["worst"]
    return found


def test_tables_are_measured(servers: Servers, stream: Any, bench: Any) -> None:
    tables = importlib.import_module("serving_tables")
    bodies = tables.tables(20, 10)
    rate = asyncio.run(stream.drain(servers, bodies, lambda n: stream.answering(bench.loaded, n).on_batch, tables=True))
    assert rate > 0 and tables.bare(bench.loaded, seconds=0.05) > 0
    aimed("tables", tables.figures([1.0, rate], [2.0, 4.0]))


def test_the_cost_of_delivery_is_measured(servers: Servers, stream: Any) -> None:
    cost = importlib.import_module("delivery_cost")
    found = asyncio.run(cost.measure(servers, EVENTS, 1))
    assert all(found[f"{name}_ratio"] > 0 for name in ("pipeline", "fenced", "once"))
    aimed("delivery", found)


def test_http_is_measured_beside_a_bare_app(stream: Any, bench: Any, tmp_path: Path) -> None:
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(bench.onnx)
    options = argparse.Namespace(seconds=0.2, runs=1, connections=4)
    found = importlib.import_module("http_infer").measure(options, onnx)
    assert found["single_to_bare"] > 0 and found["open_loop_at_0.7"]["p99_ms"] > 0
    aimed("http", found, but=PEERS)


def test_peers_over_http_are_compared(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the one that needs no environment of its own, under the names of those that do."""
    http, peers = importlib.import_module("http_infer"), importlib.import_module("http_peers")
    monkeypatch.setattr(peers, "_WARM_SECONDS", 0.1)
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(bench.onnx)
    with http.running("ours", onnx) as port:
        rates = peers.compared(peers.PEERS[0], port, bench.onnx, argparse.Namespace(seconds=0.2, runs=1, connections=4))
    found = peers.summary({peer.name: rates for peer in peers.PEERS})
    assert found["ratio_to"]["mlflow"]["single"] == round(rates["ours_1"] / rates["theirs_1"], 2) > 0
    aimed("http", found, but=OWN_HTTP)
    for peer in peers.PEERS:  # what each is asked is JSON, and holds the rows
        assert json.loads(peer.body(2))


@pytest.fixture(scope="module")
def together(bench: Any) -> Iterator[dict[str, "Future[Any]"]]:
    """What those that start services found, three at a time: most of it is waiting. What they do to the collector of
    garbage is undone."""
    measured = {
        "large_tables": lambda: script("serving_large_tables", bench).measure([100, 200], 1, 0.05),
        "swap": lambda: script("serving_swap", bench).measure(100, 9.0),
        "rollback": lambda: script("serving_rollback", bench).measure(100, 60.0, 1.0),
        "kills": lambda: script("serving_kills", bench).measure(100, 2.0, 1),
        "pipelines": lambda: script("serving_pipelines", bench).measure(3, 2_000, 0.5),
    }
    before = gc.get_threshold()
    with ThreadPoolExecutor(3) as threads:  # with a loop each: none stands still for what another one computes
        yield {part: threads.submit(lambda run=run: asyncio.run(run())) for part, run in measured.items()}
    gc.set_threshold(*before)
    gc.unfreeze()


def script(name: str, bench: Any) -> Any:
    """A benchmark with the small model."""
    module = importlib.import_module(name)
    module.fit = lambda: bench
    return module


@pytest.mark.parametrize("part", ["large_tables", "swap", "rollback", "kills", "pipelines"])
def test_what_starts_services_is_measured(together: dict[str, "Future[Any]"], part: str) -> None:
    found = together[part].result()
    assert {found.get(name, 0) for name in ("lost", "failed", "doubled")} == {0}
    aimed(part, found)


def test_all_of_it_ends_with_one_object_and_tells_what_is_met(
    stream: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    every = importlib.import_module("serving_all")
    parts = {"delivery": ["delivery_cost.py", "--events", "100", "--runs", "1"], "swap": ["no_such_script.py"]}
    monkeypatch.setattr(every, "_PARTS", parts)
    monkeypatch.setattr(sys, "argv", ["serving_all.py"])
    with pytest.raises(SystemExit) as ended:
        every.main()
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ended.value.code == 1 and "error" in last["swap"]
    assert last["aims"] == {"fenced_step_to_bare_step": {"value": last["delivery"]["fenced_ratio"]}}


def test_aims_are_judged_by_their_sign(stream: Any) -> None:
    aims = importlib.import_module("aims")
    found = aims.judged({"swap": {"lost": 1, "ratio_p99": 2, "rollback_seconds": 2.01}})
    assert {name: row["met"] for name, row in found.items()} == {
        "swap_lost": False,
        "swap_p99_ratio": True,
        "swap_rollback_seconds": False,
    }
    assert found["swap_p99_ratio"] == {"value": 2, "aim": "≤ 2", "met": True}
