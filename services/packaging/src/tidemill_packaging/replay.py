"""The clean-room replay: ``python -I replay.py MODEL SHA256 GOLDEN SIGNATURE``, with nothing but onnxruntime and numpy.

The first thing it does is to make every training library unimportable; then it answers the golden predictions from the
package's bytes. Its last line is a JSON proof; exit code 0 only when every answer is the expected one.
"""

import sys

FORBIDDEN = ("sklearn", "pandas", "skops", "skl2onnx", "onnx", "scipy", "joblib", "pyarrow", "tidemill_packaging")


class _Ban:
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in FORBIDDEN:
            raise ModuleNotFoundError(f"{name} is not to be had in the clean room", name=name)


sys.meta_path.insert(0, _Ban())

import hashlib  # noqa: E402 - after the ban
import json  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402


class RefusedError(Exception):
    """The package is not proven."""


def clean() -> list[str]:
    """Names that cannot be imported here. Raises RefusedError unless it is every forbidden one."""
    for name in FORBIDDEN:
        try:
            __import__(name)
        except ModuleNotFoundError:
            continue
        raise RefusedError(f"the clean room is not clean: {name} can be imported")
    present = sorted({name.partition(".")[0] for name in sys.modules} & set(FORBIDDEN))
    if present:
        raise RefusedError(f"the clean room is not clean: {', '.join(present)}")
    return list(FORBIDDEN)


def answer(onnx: bytes, rows: list[dict[str, Any]], signature: dict[str, Any]) -> dict[str, Any]:
    """The package's outputs by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    numeric, categorical = signature["numeric"], signature["categorical"]
    feed = {
        "numeric": np.array([[np.nan if r[c] is None else r[c] for c in numeric] for r in rows], np.float32),
        "categorical": np.array([[r[c] or "" for c in categorical] for r in rows], object),
    }
    outputs = [o.name for o in session.get_outputs()]
    found = session.run(outputs, {i.name: feed[i.name] for i in session.get_inputs()})
    return dict(zip(outputs, found, strict=True))


def label(p: Any, most: int, signature: dict[str, Any]) -> tuple[int, float]:
    """The class index that probabilities mean, and how far they are from meaning another."""
    threshold, classes = signature.get("threshold"), signature["classes"]
    if threshold is not None and len(p) == 2:
        positive = classes.index(signature["positive"])
        return (positive if p[positive] >= threshold else 1 - positive), abs(float(p[positive]) - threshold)
    first, second = sorted((float(v) for v in p), reverse=True)[:2]
    return most, (first - second) / 2


def replay(onnx: bytes, golden: dict[str, Any], signature: dict[str, Any]) -> float:
    """The largest difference. Raises RefusedError when an answer is not the expected one."""
    expected, tolerance = golden["predictions"], golden["tolerance"]
    answers = answer(onnx, [g["features"] for g in expected], signature)
    worst = 0.0
    for i, g in enumerate(expected):
        if signature["task"] == "classification":
            p = np.asarray(answers["probabilities"][i], np.float64)
            off = float(np.abs(p - np.asarray(g["probabilities"])).max())
            index, margin = label(p, int(np.asarray(answers["label"]).reshape(-1)[i]), signature)
            wrong = signature["classes"][index] != g["prediction"] and margin > tolerance
        else:
            value = float(np.asarray(answers["value"]).reshape(-1)[i])
            off, wrong = abs(value - g["prediction"]) / max(1.0, abs(g["prediction"])), False
        if wrong or not off <= tolerance:  # NaN compares as false with everything
            raise RefusedError(f"golden prediction {i} is off by {off:.3g}, tolerance {tolerance:.3g}")
        worst = max(worst, off)
    return worst


def main(arguments: list[str]) -> int:
    """Replay and report."""
    model, sha256, golden_file, signature_file = arguments
    try:
        absent = clean()
        onnx = Path(model).read_bytes()
        if hashlib.sha256(onnx).hexdigest() != sha256:
            raise RefusedError("the model's bytes are not the packaged ones")
        golden = json.loads(Path(golden_file).read_bytes())
        worst = replay(onnx, golden, json.loads(Path(signature_file).read_bytes()))
    except RefusedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    proof = {
        "replayed": len(golden["predictions"]),
        "worst": worst,
        "tolerance": golden["tolerance"],
        "absent": absent,
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
        "model_sha256": sha256,
    }
    sys.stdout.write(json.dumps(proof, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
