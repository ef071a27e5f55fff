"""Rows per second of the serving process on large tables (an Arrow object an event), beside ONNX Runtime alone.

    python tests/benchmarks/serving_large_tables.py [--rows 1000 10000 100000] [--runs 3]

The same model as in ``serving_stream.py``. Each table is stored beforehand; the clock runs from the event that asks for
it to the event that answers it, one table after the other: fetched, verified, read in a child of its own, answered,
stored. ``fixed_ms`` is what a table of one row takes. The last line is one JSON object.
"""

import argparse
import asyncio
import io
import json
import statistics
import time
import uuid
from typing import Any

import pyarrow as pa
import serving_process
from serving_stream import CATEGORICAL, NUMERIC, PIPELINE, fit, table
from serving_tables import bare

from tidemill_contracts.artifacts import ArtifactRef, table_input_key
from tidemill_contracts.events import ModelDeployed, TableCompleted, TableRequested
from tidemill_contracts.streams import stream_key
from tidemill_contracts.table import RequestedTable
from tidemill_shared.raw import call
from tidemill_shared.store import reference
from tidemill_shared.testing.platform import Platform

_PATIENCE_SECONDS = 120.0


async def stored(opened: Platform, rows: int) -> ArtifactRef:
    """A table as a producer would store it."""
    frame, out = table(rows, seed=rows), io.BytesIO()
    columns: dict[str, Any] = {name: frame[name].to_numpy() for name in NUMERIC}
    columns |= {name: pa.array(frame[name].tolist()).dictionary_encode() for name in CATEGORICAL}
    arrow = pa.table({"prediction_id": [str(uuid.uuid4()) for _ in range(rows)], **columns})
    with pa.ipc.new_file(out, arrow.schema) as writer:
        writer.write_table(arrow)
    return await opened.store.put(table_input_key(PIPELINE, reference("x", out.getvalue()).sha256), out.getvalue())


async def seconds_of(opened: Platform, ref: ArtifactRef) -> float:
    """From asked to answered, under an id of its own. Raises RuntimeError when there is no answer."""
    stream = stream_key(opened.namespace, TableCompleted.type_name(), PIPELINE)
    last = await opened.redis.xrevrange(stream, count=1)
    started = time.perf_counter()
    await opened.publish(TableRequested.root(RequestedTable(table=ref), subject=PIPELINE, source="urn:benchmark"))
    while time.perf_counter() - started < _PATIENCE_SECONDS:
        if await call(opened.redis, "XREAD", "BLOCK", 1_000, "STREAMS", stream, last[0][0] if last else "0"):
            return time.perf_counter() - started
    raise RuntimeError(f"no answer to {ref.key}")


async def measure(rows: list[int], runs: int, bare_seconds: float = 2.0) -> dict[str, Any]:
    """Medians; sizes and ONNX Runtime take turns."""
    bench = fit()
    seconds: dict[int, list[float]] = {}
    alone: list[float] = []
    async with serving_process.platform() as opened:
        await opened.declare(serving_process.spec(PIPELINE))
        promoted = await serving_process.promote(opened, bench, PIPELINE, 1)
        async with serving_process.serving(opened):
            await opened.publish(promoted)
            await opened.wait_for(ModelDeployed)
            tables = {count: await stored(opened, count) for count in [1, *rows]}
            await seconds_of(opened, tables[1])
            for _ in range(runs):
                alone.append(await asyncio.to_thread(bare, bench.loaded, bare_seconds))
                for count, ref in tables.items():
                    seconds.setdefault(count, []).append(await seconds_of(opened, ref))
                print("   ".join(f"{n:,} rows {s[-1] * 1e3:,.0f} ms" for n, s in seconds.items()), flush=True)
    middle = {count: statistics.median(values) for count, values in seconds.items()}
    rates = {str(count): round(count / middle[count]) for count in rows}
    onnx_runtime = statistics.median(alone)
    return {
        "fixed_ms": round(middle[1] * 1e3, 1),
        "milliseconds": {str(count): round(middle[count] * 1e3, 1) for count in rows},
        "rows_per_second": rates,
        "onnx_runtime_rows_per_second": round(onnx_runtime),
        "ratio": {count: round(rate / onnx_runtime, 3) for count, rate in rates.items()},
        "ratio_of_the_largest": round(rates[str(max(rows))] / onnx_runtime, 3),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--runs", type=int, default=3)
    arguments, _ = parser.parse_known_args()
    print(json.dumps(asyncio.run(measure(arguments.rows, arguments.runs))))


if __name__ == "__main__":
    main()
