"""Rows per second of one serving process on tables (many rows as columns in one event), beside ONNX Runtime alone.

    python tests/benchmarks/serving_tables.py [--rows 100] [--events 1500] [--runs 3]

The same model and the same way of measuring as in ``serving_stream.py``: streams filled first, fenced completion, first
writer wins. ONNX Runtime alone gets the matrices of the same rows, ready in memory, 2 048 at a time, on one thread.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
import uuid
from pathlib import Path

from serving_stream import CATEGORICAL, NUMERIC, PIPELINE, answering, drain, fit, table

from tidemill_contracts.events import PredictionsRequested
from tidemill_contracts.prediction import RequestedPredictions
from tidemill_serving.domain.features import matrices
from tidemill_serving.garbage import look_rarely
from tidemill_serving.loading import Loaded
from tidemill_shared.testing.servers import local_servers

_ROWS_A_CALL = 2_048


def tables(events: int, rows: int) -> list[bytes]:
    """Encoded tables, as a producer would send them."""
    frame, found = table(events * rows, seed=1), []
    for at in range(0, len(frame), rows):
        part = frame.iloc[at : at + rows]
        payload = RequestedPredictions(
            ids=tuple(str(uuid.uuid4()) for _ in range(rows)),
            # The shortest decimals that are these float32 again, as a careful producer writes them.
            columns={name: tuple(float(str(cell)) for cell in part[name].to_numpy()) for name in NUMERIC}
            | {name: tuple(part[name]) for name in CATEGORICAL},
        )
        found.append(PredictionsRequested.root(payload, subject=PIPELINE, source="urn:benchmark").to_json())
    return found


def bare(loaded: Loaded, seconds: float = 2.0) -> float:
    """Rows per second of ONNX Runtime alone."""
    inputs, _ = matrices(table(_ROWS_A_CALL, seed=2).to_dict("records"), loaded.model.layout)  # type: ignore[arg-type]
    loaded.model.predict(inputs)
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        loaded.model.predict(inputs)
        calls += 1
    return calls * _ROWS_A_CALL / (time.perf_counter() - started)


def figures(served: list[float], alone: list[float]) -> dict[str, float]:
    """Medians of the turns in rows per second, and the ratio."""
    ours, onnx_runtime = statistics.median(served), statistics.median(alone)
    return {
        "rows_per_second": round(ours),
        "onnx_runtime_rows_per_second": round(onnx_runtime),
        "ratio": round(ours / onnx_runtime, 3),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--events", type=int, default=1_500)
    parser.add_argument("--runs", type=int, default=3)
    arguments, _ = parser.parse_known_args()
    loaded, bodies = fit().loaded, tables(arguments.events, arguments.rows)
    asyncio.run(look_rarely())  # as the service does
    print(f"{arguments.events} tables of {arguments.rows} rows, {len(bodies[0])} bytes each")
    alone, served = [], []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = stack.enter_context(local_servers(Path(folder)))
        for _ in range(arguments.runs):
            alone.append(bare(loaded))
            rate = asyncio.run(drain(servers, bodies, lambda n: answering(loaded, n).on_batch, tables=True))
            served.append(rate * arguments.rows)
            print(f"ONNX Runtime alone {alone[-1]:,.0f} rows/s   tables {served[-1]:,.0f} rows/s", flush=True)
    print(json.dumps(figures(served, alone)))


if __name__ == "__main__":
    main()
