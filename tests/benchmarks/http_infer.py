"""Predictions over HTTP: ours, a bare Starlette + ONNX Runtime app on the same arrays, and a constant, in turns.

    python tests/benchmarks/http_infer.py [--seconds 4] [--runs 3] [--connections 64]

20 numeric and 5 categorical columns, one-hot, 100 boosting iterations. Both servers are one process with the same event
loop and HTTP parser. Ours is the service's own routes behind its own door (loopback, no key), with every check of the
protocol; its constant is one more route there, asked without a body and, as ``constant_to_body``, with the same one.
The bare app is what an expert writes in an afternoon: rows as objects, two arrays, one call, no checks. The load
generator is a process of its own that shares the cores. Closed loop: each connection asks again when it is answered.
Open loop: requests leave by the clock at 70 % of the highest rate, measured just before, and their latency counts from
when they were due. Medians of the runs; the last line is one JSON object. Trust the ratios.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

NUMERIC = tuple(f"number_{i}" for i in range(20))
CATEGORICAL = tuple(f"kind_{i}" for i in range(5))
LEVELS = tuple("abcdefgh")
PIPELINE = "benchmark"


def fitted_onnx() -> bytes:
    """A model fitted on 5 000 rows and converted."""
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingClassifier

    from tidemill_packaging.domain.conversion import convert
    from tidemill_training.domain.preprocessing import assemble

    random = np.random.default_rng(0)
    x = pd.DataFrame(
        {name: random.normal(size=5_000).astype(np.float32) for name in NUMERIC}
        | {name: random.choice(LEVELS, 5_000).astype(object) for name in CATEGORICAL}
    )
    y = (x[NUMERIC[0]] * x[NUMERIC[1]] + (x[CATEGORICAL[0]] == "a") > 0).astype(int)
    boosting = HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=0)
    fitted = assemble("hist_gradient_boosting", boosting, len(NUMERIC), [list(LEVELS)] * len(CATEGORICAL)).fit(x, y)
    return convert(fitted, numeric=len(NUMERIC), categorical=len(CATEGORICAL), classify=True, opset=18)


def serve(kind: str, onnx: Path, port: int) -> None:
    """Run one of the servers; its port goes to standard output."""
    from tidemill_serving.garbage import look_rarely
    from tidemill_shared.health import build_server

    async def probe() -> None:
        return None

    routes = ours(onnx.read_bytes()) if kind == "ours" else bare(str(onnx))

    async def run() -> None:
        if kind == "ours":
            await look_rarely()  # as the service does when it starts
        server = build_server(kind, "127.0.0.1", port, probe, routes)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await task

    asyncio.run(run())


def ours(onnx: bytes) -> list[Any]:
    """The service's routes on one model, and a constant beside them, behind the door."""
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from tidemill_contracts.artifacts import ArtifactRef
    from tidemill_serving.domain.features import Layout
    from tidemill_serving.domain.model import Model
    from tidemill_serving.http import Protocol
    from tidemill_serving.loading import Loaded
    from tidemill_serving.settings import ServingGroup
    from tidemill_shared.guard import Door, guarded
    from tidemill_shared.settings import HttpSettings

    layout = Layout(NUMERIC, CATEGORICAL, {name: frozenset(LEVELS) for name in CATEGORICAL})
    model = Model(onnx, layout, task="classification", classes=(0, 1), positive=1)
    loaded = Loaded(model, "0" * 12, "1" * 12, 1, ArtifactRef(key="none", sha256="0" * 64, size=0))

    class Models:
        async def get(self, _: str, __: str | None = None) -> Loaded:
            return loaded

    async def constant(request: Request) -> Response:
        await request.body()
        return Response(b'{"constant":true}', media_type="application/json")

    protocol = Protocol(Models(), lambda *_: None, None, None, None, ServingGroup())  # type: ignore[arg-type]
    door = Door(HttpSettings(rate_per_second=1e6))
    return guarded([Route("/constant", constant, methods=["GET", "POST"]), *protocol.routes()], door, "predict")


def bare(onnx: str) -> list[Any]:
    """The bare app."""
    import onnxruntime
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    async def predict(request: Request) -> Response:
        rows = orjson.loads(await request.body())["rows"]
        feed = {
            "numeric": np.array([[row[name] for name in NUMERIC] for row in rows], np.float32),
            "categorical": np.array([[row[name] for name in CATEGORICAL] for row in rows], object),
        }
        p = session.run(["probabilities"], feed)[0][:, 1]
        return Response(orjson.dumps({"p": p.tolist()}), media_type="application/json")

    return [Route("/predict", predict, methods=["POST"])]


def bodies(rows: int) -> dict[str, bytes]:
    """The same rows for both servers."""
    random = np.random.default_rng(rows)
    numbers = random.normal(size=(rows, len(NUMERIC))).astype(np.float32).round(4).astype(float)
    kinds = random.choice(LEVELS, (rows, len(CATEGORICAL)))
    objects = [
        dict(zip(NUMERIC + CATEGORICAL, [*n, *k], strict=True))
        for n, k in zip(numbers.tolist(), kinds.tolist(), strict=True)
    ]
    tensors = [
        {"name": "numeric", "datatype": "FP32", "shape": [rows, 20], "data": numbers.reshape(-1).tolist()},
        {"name": "categorical", "datatype": "BYTES", "shape": [rows, 5], "data": kinds.reshape(-1).tolist()},
    ]
    return {"ours": orjson.dumps({"inputs": tensors}), "bare": orjson.dumps({"rows": objects})}


class Connection(asyncio.Protocol):
    """One kept-alive connection: a request out, its answer in."""

    def __init__(self, on_answer: Callable[["Connection"], None]) -> None:
        self._on_answer = on_answer
        self._buffer = b""
        self.due = 0.0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Some of an answer; anything but 200 ends the benchmark."""
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        start = head.lower().index(b"content-length:") + 15
        length = int(head[start:].split(b"\r\n", 1)[0])
        if len(body) >= length:
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"refused: {self._buffer[:500]!r}")
            self._buffer = b""
            self._on_answer(self)


async def load_with(port: int, request: bytes, seconds: float, connections: int, rate: float | None) -> list[float]:
    """Latencies in seconds of every request that was answered in the window; ``rate`` None is a closed loop."""
    latencies: list[float] = []
    idle: deque[Connection] = deque()
    due: deque[float] = deque()
    stopped = False

    def ask(connection: Connection, at: float) -> None:
        connection.due = at
        connection.transport.write(request)

    def answered(connection: Connection) -> None:
        now = time.perf_counter()
        latencies.append(now - connection.due)
        if stopped:
            return
        if rate is None:
            ask(connection, now)
        elif due:
            ask(connection, due.popleft())
        else:
            idle.append(connection)

    loop, host = asyncio.get_running_loop(), "127.0.0.1"
    made = [(await loop.create_connection(lambda: Connection(answered), host, port))[1] for _ in range(connections)]
    started = time.perf_counter()
    if rate is None:
        for connection in made:
            ask(connection, started)
        await asyncio.sleep(seconds)
    else:
        idle.extend(made)
        sent = 0
        while (now := time.perf_counter()) < started + seconds:
            while started + sent / rate <= now:
                at = started + sent / rate
                ask(idle.popleft(), at) if idle else due.append(at)
                sent += 1
            await asyncio.sleep(0.0005)
    stopped = True
    taken, waiting = len(latencies), len(due)
    for connection in made:
        connection.transport.close()
    # What is still owed is late already: it must not be missing from the percentiles.
    return latencies[:taken] + [time.perf_counter() - at for at in list(due)[:waiting]]


def request_of(path: str, body: bytes | None) -> bytes:
    """An HTTP/1.1 request."""
    if body is None:
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextlib.contextmanager
def running(kind: str, onnx: Path) -> Iterator[int]:
    """A server as a process; yields its port."""
    command = [sys.executable, __file__, "--serve", kind, "--onnx", str(onnx)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.kill()


def paced(port: int, request: bytes, arguments: argparse.Namespace) -> tuple[float, float, float]:
    """A rate of 70 % of what the server does at most, and p50 and p99 (ms) at it.

    The most is measured just before: a machine that is shared may do half of that some minutes later, and 70 % of a
    better hour is more than it can do.
    """
    seconds, connections = arguments.seconds, arguments.connections
    rate = 0.7 * len(asyncio.run(load_with(port, request, seconds, connections, None))) / seconds
    p50, p99 = np.percentile(asyncio.run(load_with(port, request, seconds, connections, rate)), [50, 99]) * 1000
    print(f"open loop {rate:,.0f}/s: p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)
    return rate, float(p50), float(p99)


def measure(arguments: argparse.Namespace, onnx: Path) -> dict[str, Any]:
    """Rates and percentiles, the servers taking turns."""
    infer, single, many = f"/v2/models/{PIPELINE}/infer", bodies(1), bodies(64)
    rates: dict[str, list[float]] = {}
    with running("ours", onnx) as our_port, running("bare", onnx) as bare_port:
        cases = {
            "constant": (our_port, request_of("/constant", None)),
            "constant_to_body": (our_port, request_of("/constant", single["ours"])),
            "single_ours": (our_port, request_of(infer, single["ours"])),
            "single_bare": (bare_port, request_of("/predict", single["bare"])),
            "many_ours": (our_port, request_of(infer, many["ours"])),
            "many_bare": (bare_port, request_of("/predict", many["bare"])),
        }
        for turn in range(arguments.runs + 1):
            for name, (port, request) in cases.items():
                seconds = 0.5 if turn == 0 else arguments.seconds
                found = asyncio.run(load_with(port, request, seconds, arguments.connections, None))
                if turn:
                    rates.setdefault(name, []).append(len(found) / seconds)
            if turn:
                print("   ".join(f"{name} {values[-1]:,.0f}/s" for name, values in rates.items()), flush=True)
        rate = {name: statistics.median(values) for name, values in rates.items()}
        late = [paced(*cases["single_ours"], arguments) for _ in range(arguments.runs)]
    open_rate, p50, p99 = np.median(late, axis=0)
    return {
        "connections": arguments.connections,
        "requests_per_second": {name: round(value) for name, value in rate.items()},
        "single_to_bare": round(rate["single_ours"] / rate["single_bare"], 3),
        "single_to_constant": round(rate["single_ours"] / rate["constant"], 3),
        "single_to_constant_to_body": round(rate["single_ours"] / rate["constant_to_body"], 3),
        "rows_of_64_to_bare": round(rate["many_ours"] / rate["many_bare"], 3),
        "rows_per_second_of_64": round(64 * rate["many_ours"]),
        "open_loop_at_0.7": {"rate": round(open_rate), "p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)},
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--onnx", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    arguments, _ = parser.parse_known_args()
    if arguments.serve:
        serve(arguments.serve, arguments.onnx, arguments.port)
        return
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder) / "model.onnx"
        onnx.write_bytes(fitted_onnx())
        print(json.dumps(measure(arguments, onnx)))


if __name__ == "__main__":
    main()
