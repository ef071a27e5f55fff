"""A client that others wrote (Triton's) speaks to ours. It is installed apart: it asks for other packages."""

import asyncio
import json
import os
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidemill_contracts.pipeline import PipelineSpec
from tidemill_serving.app import build
from tidemill_serving.settings import ServingSettings
from tidemill_shared.testing.platform import Platform

CONVERSATION = """
import json, sys
import numpy as np
from tritonclient.http import InferenceServerClient, InferenceServerException, InferInput, InferRequestedOutput

client = InferenceServerClient(sys.argv[1])

def column(name, values, datatype):
    tensor = InferInput(name, [len(values)], datatype)
    tensor.set_data_from_numpy(values, binary_data=False)
    return tensor

matrix = InferInput("numeric", [2, 2], "FP32")
matrix.set_data_from_numpy(np.array([[1, 2], [3, -4]], np.float32), binary_data=False)
colours = column("colour", np.array([b"red", b"green"], object), "BYTES")
whole = client.infer("sales", [matrix, colours], request_id="mine")
typed = {
    datatype: client.infer(
        "sales",
        [
            column("height", np.array([1, 0], dtype), datatype),
            column("weight", np.array([0.5, 1], np.float64), "FP64"),
            colours,
        ],
        model_version=whole.get_response()["model_version"],
        outputs=[InferRequestedOutput("probabilities", binary_data=False)],
    ).as_numpy("probabilities").tolist()
    for datatype, dtype in {
        "BOOL": bool, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "UINT8": np.uint8,
        "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "FP32": np.float32, "FP64": np.float64,
    }.items()
}
try:
    client.infer("sales", [matrix])
    refused = None
except InferenceServerException as error:
    refused = [error.status(), error.message()]
print(json.dumps({
    "live": client.is_server_live(), "ready": client.is_server_ready(), "model": client.is_model_ready("sales"),
    "server": client.get_server_metadata()["name"], "inputs": client.get_model_metadata("sales")["inputs"],
    "index": client.get_model_repository_index()[0]["state"], "id": whole.get_response()["id"],
    "probabilities": whole.as_numpy("probabilities").tolist(), "typed": typed, "refused": refused,
}))
"""


@pytest.fixture(scope="module")
def client_python() -> Path:
    """A Python with the client, kept between runs. `make clients` installs it; elsewhere its absence is a skip."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidemill" / "triton-client"
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        if not os.environ.get("TIDEMILL_INSTALL_CLIENTS"):
            pytest.skip("Triton's client is not installed: `make clients` does it")
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "tritonclient[http]>=2.60"]
        subprocess.run(pip, check=True)
        ready.touch()
    return python


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_tritons_client_is_answered(
    platform: Platform,
    spec: PipelineSpec,
    promote: Any,
    probability: Callable[[dict[str, Any], float], float],
    client_python: Path,
) -> None:
    await platform.declare(spec)
    await promote(1, bias=0.0)
    service = build(platform.settings(ServingSettings))
    async with platform.running(service):
        process = await asyncio.create_subprocess_exec(
            client_python, "-c", CONVERSATION, f"127.0.0.1:{service.port}", stdout=-1, stderr=-1
        )
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode(errors="replace")
    said = json.loads(out)
    assert [said[k] for k in ("live", "ready", "model")] == [True, True, True]
    assert (said["server"], said["index"], said["id"]) == ("tidemill", "READY", "mine")
    assert [t["name"] for t in said["inputs"]] == ["numeric", "categorical"]

    def odds(*rows: tuple[float, float, str]) -> list[list[float]]:
        found = [probability({"height": h, "weight": w, "colour": c}, 0.0) for h, w, c in rows]
        return [[pytest.approx(1 - p, abs=1e-5), pytest.approx(p, abs=1e-5)] for p in found]

    assert said["probabilities"] == odds((1, 2, "red"), (3, -4, "green"))
    assert len(said["typed"]) == 11
    for datatype, found in said["typed"].items():
        assert found == odds((1, 0.5, "red"), (0, 1, "green")), datatype
    assert said["refused"][0] == "400"
    assert "colour" in said["refused"][1]
