"""A package answers in a program that has numpy and onnxruntime, and none of our other libraries."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidemill_contracts.package import Golden
from tidemill_serving import load

CLEAN = """
import sys

class Absent:
    names = {"sklearn", "pandas", "scipy", "skops", "pyarrow", "pydantic", "redis", "minio", "faststream", "starlette",
             "uvicorn", "orjson", "opentelemetry", "cryptography", "tidemill_shared", "tidemill_contracts"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is not installed here")

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def package(
    tmp_path: Path, make_onnx: Callable[[float], bytes], make_golden: Callable[[float], Golden], make_signature: Any
) -> Path:
    """A package of the classifier, in a folder."""
    folder = tmp_path / "package"
    folder.mkdir()
    files = {
        "model.onnx": make_onnx(0.0),
        "signature.json": make_signature().to_json(),
        "golden.json": make_golden(0.0).to_json(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    manifest = {
        "version": "0123456789ab",
        "dataset_version": "ba9876543210",
        "files": {name: {"sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_the_readmes_example_runs_without_our_other_libraries(package: Path) -> None:
    page = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", CLEAN + example], cwd=package.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "0123456789ab ('no', 'yes')"
    assert said[1].startswith("yes (0.01798")
    assert said[2].startswith("None unknown_category colour: feature 'colour'")
    again = subprocess.run([sys.executable, "-c", CLEAN + "import redis"], capture_output=True, check=False)
    assert again.returncode != 0, "what is hidden is hidden"


def test_it_answers_as_the_service_does(package: Path, probability: Callable[[dict[str, Any], float], float]) -> None:
    predict = load(package)
    rows = [
        {"height": 1.0, "weight": 2, "colour": "red"},
        {"height": None, "weight": -4.0, "colour": None, "other": 1},
        {"height": "x", "weight": 1.0, "colour": "red"},
        {"height": 1.0, "colour": "red"},
    ]
    answers = predict(rows)
    for row, answer in zip(rows[:2], answers, strict=False):
        assert answer.probabilities[1] == pytest.approx(probability(row, 0.0), rel=1e-5)
        assert answer.prediction == predict.classes[answer.probabilities[1] >= 0.5]
    assert [(a.prediction, a.error, a.field) for a in answers[2:]] == [
        (None, "wrong_type", "height"),
        (None, "missing_feature", "weight"),
    ]
    assert predict([]) == []


def test_another_file_or_another_answer_is_refused(package: Path) -> None:
    manifest = (package / "manifest.json").read_bytes()
    load(package, sha256=hashlib.sha256(manifest).hexdigest())
    with pytest.raises(ValueError, match="not the manifest"):
        load(package, sha256="0" * 64)
    golden = json.loads((package / "golden.json").read_bytes())
    golden["predictions"][0]["probabilities"] = [0.5, 0.5]
    changed = json.dumps(golden).encode()
    (package / "golden.json").write_bytes(changed)
    with pytest.raises(ValueError, match=r"golden\.json is not the file"):
        load(package)
    told = json.loads(manifest)
    told["files"]["golden.json"]["sha256"] = hashlib.sha256(changed).hexdigest()
    (package / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="golden row 0"):
        load(package)
    (package / "model.onnx").unlink()
    with pytest.raises(FileNotFoundError):
        load(package)
