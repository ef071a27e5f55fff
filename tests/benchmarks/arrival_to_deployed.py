"""From `data.arrived` to `model.deployed`, beside a bare script that does the same work in one process.

    python tests/benchmarks/arrival_to_deployed.py [--runs 5]

The bare script (`bare_script.py`) reads the same CSV, fits the same two candidates, evaluates, measures permutation
importance of the better one, saves it with skops, converts it to ONNX and compares both on 2 000 rows: everything but
events, storage, signatures, the clean-room replay and the judgement. Its time is the whole process's, imports
included, since a person who runs it waits for those too; the time without imports is printed beside it. Prints medians
and ratios; the last line is one JSON object.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd

from tidemill_console.commands.data import publish_file
from tidemill_console.commands.declare import declare_pipeline
from tidemill_console.connection import connected
from tidemill_console.demo.seasons import FEATURES, TARGET, first_file, read
from tidemill_console.stack import Stack
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import ModelDeployed
from tidemill_contracts.pipeline import PipelineSpec, SearchPolicy
from tidemill_contracts.registry import parse_as
from tidemill_contracts.streams import stream_key

BARE = Path(__file__).with_name("bare_script.py")


def generated(rows: int) -> pd.DataFrame:
    """20 numeric and 5 categorical columns with a binary target."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({f"n{i}": rng.normal(size=rows).round(6) for i in range(20)})
    for i in range(5):
        table[f"c{i}"] = np.array([f"v{j}" for j in range(5 * (i + 1))])[rng.integers(0, 5 * (i + 1), rows)]
    z = 1.2 * table.n0 - table.n1 * table.n2 + np.sin(2 * table.n3) + (table.c0 == "v1") + rng.normal(size=rows)
    table["y"] = (z > z.median()).astype(int)
    return table


def spec_of(name: str, target: str, numeric: list[str], categorical: list[str]) -> PipelineSpec:
    """The two candidates of the bare script, at their defaults."""
    features = [{"name": n, "kind": "numeric"} for n in numeric] + [
        {"name": c, "kind": "categorical"} for c in categorical
    ]
    return PipelineSpec.model_validate(
        {
            "name": name,
            "task": "classification",
            "target": target,
            "positive": 1,
            "primary": "f1",
            "features": features,
            "exclude": ("player", "season", "stint", "played") if target == TARGET else (),
            "keys": ("player", "season", "stint") if target == TARGET else (),
            "search": SearchPolicy(families=("hist_gradient_boosting", "linear"), trials=2, seconds=600),
        }
    )


async def ours(spec: PipelineSpec, file: Path) -> float:
    """Seconds from the publication of the event to the deployment, by the services' own clocks."""
    async with connected() as client:
        await declare_pipeline(client, spec)
        stream = stream_key(client.namespace, ModelDeployed.type_name())
        event = await publish_file(client, spec.name, file, ".csv", str(uuid4()), datetime.now(UTC))
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            for _, fields in await client.bus.redis.xrange(stream):
                deployed = parse_as(ModelDeployed, fields[FIELD.encode()])
                if deployed.pipeline == spec.name:
                    return (deployed.time - event.time).total_seconds()
            await asyncio.sleep(0.02)
    raise SystemExit(f"{spec.name}: no model was deployed; see the stack's logs")


def bare(file: Path, target: str, numeric: list[str], categorical: list[str]) -> tuple[float, float]:
    """Seconds of the whole process, and without imports."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(BARE), str(file), target, ",".join(numeric), ",".join(categorical)],
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - begun, float(done.stdout.split()[1])


def main() -> None:
    """Ours and the bare script in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TIDEMILL_DIRECTORY"] = str(Path(folder) / "state")
        small, large = Path(folder) / "small.csv", Path(folder) / "large.csv"
        small.write_bytes(first_file(read()))
        generated(100_000).to_csv(large, index=False)
        cases = [
            ("2282", small, TARGET, list(FEATURES), []),
            ("100000", large, "y", [f"n{i}" for i in range(20)], [f"c{i}" for i in range(5)]),
        ]
        stack = Stack(Path(os.environ["TIDEMILL_DIRECTORY"]))
        stack.up(lambda _: None)
        try:
            for rows, file, target, numeric, categorical in cases:
                mine, other, warm = [], [], []
                for number in range(runs):
                    spec = spec_of(f"rows-{rows}-{number}", target, numeric, categorical)
                    mine.append(asyncio.run(ours(spec, file)))
                    whole, inner = bare(file, target, numeric, categorical)
                    other.append(whole)
                    warm.append(inner)
                medians = [statistics.median(v) for v in (mine, other, warm)]
                print(
                    f"{rows} rows: tidemill {medians[0]:.2f} s, bare script {medians[1]:.2f} s (without imports "
                    f"{medians[2]:.2f} s), ratio {medians[0] / medians[1]:.2f}, without imports "
                    f"{medians[0] / medians[2]:.2f}"
                )
                result |= {f"ratio_{rows}": round(medians[0] / medians[1], 2)}
                result |= {f"ratio_{rows}_without_imports": round(medians[0] / medians[2], 2)}
                result |= {f"seconds_{rows}": round(medians[0], 2), f"bare_seconds_{rows}": round(medians[1], 2)}
        finally:
            stack.down(lambda _: None)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
