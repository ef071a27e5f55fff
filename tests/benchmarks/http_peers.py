"""Predictions over HTTP beside what else people use, each as a process of its own, ours and a peer in turns.

    python tests/benchmarks/http_peers.py [--seconds 3] [--runs 3] [--connections 64] [--only bentoml]

The same model everywhere: 20 numeric and 5 categorical columns, one-hot, 100 boosting iterations. As they come:
FastAPI, BentoML, MLServer and MLflow with scikit-learn on a data frame. Given more: BentoML and MLServer with the same
ONNX model as ours and their request batching on, and a bare Starlette app with it. One worker each, environments of
their own under ``.peers``. Closed loop, as in ``http_infer.py``; while a peer is measured nothing but ours, idle,
stands beside it. A peer is measured twice as long as ours, since slow requests are cut off at the end. The last line is
one JSON object of ratios: ours over theirs, medians of the turns.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import http_infer
from http_infer import CATEGORICAL, NUMERIC
from peers.environment import python_of

from tidemill_shared.embedded import free_port

_APPS = Path(__file__).with_name("peers")
_READY_SECONDS = 180.0
_STOP_SECONDS = 20.0
_WARM_SECONDS = 2.0
_REQUIREMENTS = {
    "fastapi": ("fastapi", "uvicorn[standard]", "pandas", "scikit-learn"),
    "bentoml": ("bentoml", "pandas", "scikit-learn", "onnxruntime"),
    "mlserver": ("mlserver", "mlserver-sklearn", "pandas", "onnxruntime"),
    "mlflow": ("mlflow", "pandas", "scikit-learn"),
}


@dataclass(frozen=True)
class Peer:
    """A server to compare with."""

    name: str
    as_it_comes: bool
    environment: str | None
    command: Callable[[Path, Path, int], list[str]]
    """From its interpreter, a folder of its own with the ONNX model in it, and a port."""
    path: str
    body: Callable[[int], bytes]


def objects(rows: int) -> bytes:
    """Rows as JSON objects."""
    return http_infer.bodies(rows)["bare"]


def tensors(rows: int) -> bytes:
    """Rows as two tensors of the Open Inference Protocol."""
    return http_infer.bodies(rows)["ours"]


def columns(rows: int) -> bytes:
    """Rows as a tensor for each column, to become a data frame."""
    records = json.loads(objects(rows))["rows"]
    text = {"parameters": {"content_type": "str"}}
    inputs = [
        {"name": name, "shape": [rows, 1], "datatype": "FP64", "data": [r[name] for r in records]} for name in NUMERIC
    ]
    inputs += [
        {"name": name, "shape": [rows, 1], "datatype": "BYTES", "data": [r[name] for r in records], **text}
        for name in CATEGORICAL
    ]
    asked = [{"name": "predict_proba"}]
    return json.dumps({"parameters": {"content_type": "pd"}, "inputs": inputs, "outputs": asked}).encode()


def records(rows: int) -> bytes:
    """Rows as JSON objects, by the name that MLflow gives them."""
    return json.dumps({"dataframe_records": json.loads(objects(rows))["rows"]}).encode()


def _bare(_: Path, folder: Path, port: int) -> list[str]:
    onnx = str(folder / "model.onnx")
    return [sys.executable, str(Path(http_infer.__file__)), "--serve", "bare", "--onnx", onnx, "--port", str(port)]


def _fastapi(python: Path, _: Path, port: int) -> list[str]:
    return [str(python), "-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--log-level", "error"]


def _bento(module: str) -> Callable[[Path, Path, int], list[str]]:
    return lambda python, _, port: [str(python.with_name("bentoml")), "serve", f"{module}:Service", "--port", str(port)]


def _mlflow(python: Path, _: Path, port: int) -> list[str]:
    return [str(python), str(_APPS / "mlflow_serve.py"), str(port)]


def _mlserver(**model: Any) -> Callable[[Path, Path, int], list[str]]:
    def command(python: Path, folder: Path, port: int) -> list[str]:
        ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
        (folder / "settings.json").write_text(json.dumps(ports | {"parallel_workers": 0, "debug": False}))
        (folder / "model-settings.json").write_text(json.dumps({"name": "peer", **model}))
        return [str(python.with_name("mlserver")), "start", str(folder)]

    return command


_SKLEARN = {"implementation": "mlserver_fitted.FittedModel", "parameters": {"uri": ".", "content_type": "pd"}}
_BATCHED = {"implementation": "mlserver_onnx.OnnxModel", "max_batch_size": 256, "max_batch_time": 0.005}
_V2 = "/v2/models/peer/infer"
PEERS = (
    Peer("bare_starlette_onnx", False, None, _bare, "/predict", objects),
    Peer("fastapi_sklearn", True, "fastapi", _fastapi, "/predict", objects),
    Peer("bentoml", True, "bentoml", _bento("bento_sklearn"), "/predict", objects),
    Peer("mlserver", True, "mlserver", _mlserver(**_SKLEARN), _V2, columns),
    Peer("mlflow", True, "mlflow", _mlflow, "/invocations", records),
    Peer("bentoml_onnx_batching", False, "bentoml", _bento("bento_onnx"), "/predict", objects),
    Peer("mlserver_onnx_batching", False, "mlserver", _mlserver(**_BATCHED), _V2, tensors),
)


def _variables(folder: Path) -> dict[str, str]:
    """What a peer is told: where the apps and the model are, and to tell nobody of it."""
    told = {"PYTHONPATH": str(_APPS), "ONNX_FILE": str(folder / "model.onnx"), "HOME": str(folder)}
    return (
        dict(os.environ)
        | told
        | {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    )


@contextlib.contextmanager
def running(peer: Peer, python: Path, folder: Path) -> Iterator[int]:
    """The peer in a process group of its own; yields its port. Raises RuntimeError when it does not answer."""
    port, log = free_port(), folder / "log"
    command = peer.command(python, folder, port)
    # Its programs are beside its interpreter.
    variables = _variables(folder)
    variables["PATH"] = f"{python.parent}{os.pathsep}{variables['PATH']}"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=out, stderr=out, start_new_session=True)
    try:
        _until_ready(peer, port, process, log)
        yield port
    finally:
        # First asked: BentoML's workers are in groups of their own and outlive a kill.
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _until_ready(peer: Peer, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{peer.path}", peer.body(1), {"Content-Type": "application/json"}
    )
    deadline, said = time.monotonic() + _READY_SECONDS, ""
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=30):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:500]
        except OSError as error:
            said = str(error)
        time.sleep(0.1)
    raise RuntimeError(f"{peer.name} does not answer: {said}\n{log.read_text(errors='replace')[-2000:]}")


def compared(peer: Peer, our_port: int, onnx: bytes, arguments: argparse.Namespace) -> dict[str, float]:
    """Requests per second of ours and of the peer, single rows and 64 rows a request."""
    python = python_of(peer.environment, *_REQUIREMENTS[peer.environment]) if peer.environment else Path(sys.executable)
    infer = f"/v2/models/{http_infer.PIPELINE}/infer"
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "model.onnx").write_bytes(onnx)
        with running(peer, python, Path(name)) as port:
            _rate(port, http_infer.request_of(peer.path, peer.body(1)), _WARM_SECONDS, arguments.connections)
            for _ in range(arguments.runs):
                for rows in (1, 64):
                    asked = {
                        "ours": (our_port, http_infer.request_of(infer, tensors(rows)), arguments.seconds),
                        "theirs": (port, http_infer.request_of(peer.path, peer.body(rows)), 2 * arguments.seconds),
                    }
                    for who, (at, request, seconds) in asked.items():
                        rates.setdefault(f"{who}_{rows}", []).append(_rate(at, request, seconds, arguments.connections))
    middle = {case: statistics.median(values) for case, values in rates.items()}
    if not all(middle.values()):
        raise RuntimeError(f"{peer.name} answered nothing in {2 * arguments.seconds} s: give it more --seconds")
    return middle


def _rate(port: int, request: bytes, seconds: float, connections: int) -> float:
    return len(asyncio.run(http_infer.load_with(port, request, seconds, connections, None))) / seconds


def summary(found: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Ratios by peer, and over the best product as it comes."""
    ratios = {
        name: {"single": round(r["ours_1"] / r["theirs_1"], 2), "rows_of_64": round(r["ours_64"] / r["theirs_64"], 2)}
        for name, r in found.items()
    }
    plain = [ratios[peer.name]["single"] for peer in PEERS if peer.as_it_comes and peer.name in ratios]
    rates = {name: {case: round(rate, 1) for case, rate in cases.items()} for name, cases in found.items()}
    best = {"single_to_best_product_as_it_comes": min(plain)} if plain else {}
    return {"requests_per_second": rates, "ratio_to": ratios, **best}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", choices=[peer.name for peer in PEERS], action="append")
    arguments, _ = parser.parse_known_args()
    onnx, found, failed = http_infer.fitted_onnx(), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        model.write_bytes(onnx)
        with http_infer.running("ours", model) as our_port:
            for peer in PEERS:
                if peer.name not in (arguments.only or [p.name for p in PEERS]):
                    continue
                try:
                    found[peer.name] = compared(peer, our_port, onnx, arguments)
                except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
                    failed[peer.name] = str(error)  # the others are compared all the same
                    print(f"{peer.name}: {error}", flush=True)
                    continue
                told = ", ".join(f"{case} {rate:,.0f}/s" for case, rate in found[peer.name].items())
                print(f"{peer.name}: {told}", flush=True)
    print(json.dumps(summary(found) | ({"error": failed} if failed else {})))


if __name__ == "__main__":
    main()
