"""The clean-room replay: `python -I replay.py MODEL GOLDEN SIGNATURE`, with nothing but onnxruntime and numpy.

The first thing it does is to make every training library unimportable; then it answers the golden predictions from the
package's bytes. Its last line is a JSON proof; exit code 0 only when every answer is the expected one.
"""

import sys

FORBIDDEN = (
    "sklearn",
    "pandas",
    "skops",
    "skl2onnx",
    "onnx",
    "scipy",
    "joblib",
    "tidemill_shared",
    "tidemill_packaging",
)


class _Ban:
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in FORBIDDEN:
            raise ModuleNotFoundError(f"{name} is not to be had in the clean room", name=name)


sys.meta_path.insert(0, _Ban())

import hashlib  # noqa: E402 - after the ban
import json  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402


def main() -> int:
    """Replay and report."""
    absent = []
    for name in FORBIDDEN:
        try:
            __import__(name)
        except ModuleNotFoundError:
            absent.append(name)
    if len(absent) != len(FORBIDDEN):
        sys.stderr.write("the clean room is not clean\n")
        return 3
    onnx = Path(sys.argv[1]).read_bytes()
    golden = json.loads(Path(sys.argv[2]).read_bytes())
    signature = json.loads(Path(sys.argv[3]).read_bytes())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    rows = [g["features"] for g in golden["predictions"]]
    numeric, categorical = signature["numeric"], signature["categorical"]
    feed = {
        "numeric": np.array([[np.nan if r[c] is None else r[c] for c in numeric] for r in rows], np.float32),
        "categorical": np.array([[r[c] or "" for c in categorical] for r in rows], object),
    }
    wanted = {i.name for i in session.get_inputs()}
    answers = session.run(None, {k: v for k, v in feed.items() if k in wanted})
    worst = 0.0
    for i, g in enumerate(golden["predictions"]):
        if signature["task"] == "classification":
            delta = float(np.abs(np.asarray(answers[1])[i] - np.asarray(g["probabilities"])).max())
        else:
            value = float(np.asarray(answers[0]).reshape(-1)[i])
            delta = abs(value - g["prediction"]) / max(1.0, abs(g["prediction"]))
        if not delta <= golden["tolerance"]:
            sys.stderr.write(f"golden prediction {i} is off by {delta:.3g}, tolerance {golden['tolerance']:.3g}\n")
            return 1
        worst = max(worst, delta)
    proof = {
        "replayed": len(rows),
        "worst": worst,
        "absent": absent,
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
        "model_sha256": hashlib.sha256(onnx).hexdigest(),
    }
    sys.stdout.write(json.dumps(proof, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
