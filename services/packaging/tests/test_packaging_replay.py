"""The clean room: a fresh interpreter without any training library."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidemill_contracts.document import canonical_json
from tidemill_packaging.job import Packed, Unpackable
from tidemill_packaging.packing import pack
from tidemill_packaging.replaying import SCRIPT, replay

SIGNATURE = {
    "task": "classification",
    "numeric": ["age", "income"],
    "categorical": ["town"],
    "classes": ["no", "yes"],
    "positive": "yes",
    "threshold": None,
}


@pytest.fixture
def folder(case: Callable[..., Any]) -> Path:
    """A packed model with its golden predictions."""
    job = case("boosting", "binary").job
    packed = pack(job)
    assert isinstance(packed, Packed)
    rows = [{"features": f, "prediction": a, "probabilities": list(p)} for f, a, p in packed.golden]
    (job.folder / "golden.json").write_bytes(canonical_json({"tolerance": packed.tolerance, "predictions": rows}))
    (job.folder / "signature.json").write_bytes(canonical_json(SIGNATURE))
    path: Path = job.folder
    return path


def change(folder: Path, name: str, edit: Callable[[Any], None]) -> None:
    """Edit a JSON file in place."""
    value = json.loads((folder / name).read_bytes())
    edit(value)
    (folder / name).write_bytes(canonical_json(value))


async def refusal(folder: Path) -> str:
    result = await replay(folder, 60)
    assert isinstance(result, Unpackable)
    assert result.step == "replay"
    return result.message


async def test_every_golden_prediction_is_repeated_without_training_libraries(folder: Path) -> None:
    result = await replay(folder, 60)
    assert isinstance(result, bytes), result
    proof = json.loads(result)
    assert proof["replayed"] == 32
    assert proof["worst"] <= proof["tolerance"]
    assert {"sklearn", "pandas", "skops", "scipy", "skl2onnx"} <= set(proof["absent"])
    assert proof["model_sha256"] == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()


def test_training_libraries_cannot_be_imported_in_the_clean_room() -> None:
    code = f"import runpy, sys\nsys.argv = ['x']\nrunpy.run_path({str(SCRIPT)!r}, run_name='room')\nimport sklearn\n"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "sklearn is not to be had in the clean room" in done.stderr


def test_a_library_that_was_there_before_the_ban_is_noticed(folder: Path) -> None:
    code = f"import sys, types\nsys.modules['sklearn'] = types.ModuleType('sklearn')\n{SCRIPT.read_text()}"
    files = [str(folder / name) for name in ("model.onnx", "golden.json", "signature.json")]
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    command = [sys.executable, "-I", "-c", code, files[0], digest, *files[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "the clean room is not clean: sklearn can be imported" in done.stderr


async def test_a_sabotaged_probability_is_found(folder: Path) -> None:
    def sabotage(golden: Any) -> None:
        p = golden["predictions"][3]["probabilities"]
        p[0], p[1] = p[0] + 0.01, p[1] - 0.01

    change(folder, "golden.json", sabotage)
    assert "golden prediction 3 is off by 0.01" in await refusal(folder)


async def test_a_sabotaged_label_is_found(folder: Path) -> None:
    def sabotage(golden: Any) -> None:
        row = max(golden["predictions"], key=lambda g: abs(g["probabilities"][0] - 0.5))
        row["prediction"] = "yes" if row["prediction"] == "no" else "no"

    change(folder, "golden.json", sabotage)
    assert "golden prediction" in await refusal(folder)


async def test_a_model_that_is_none_is_refused(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a model")
    assert await refusal(folder)


async def test_a_replay_that_takes_too_long_is_refused(folder: Path) -> None:
    result = await replay(folder, 0.001)
    assert isinstance(result, Unpackable)
    assert result.code == "too_slow"


def test_other_bytes_than_the_packaged_ones_are_refused(folder: Path) -> None:
    files = [str(folder / name) for name in ("model.onnx", "golden.json", "signature.json")]
    command = [sys.executable, "-I", str(SCRIPT), files[0], "0" * 64, *files[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "not the packaged ones" in done.stderr
