"""A Parquet file of many rows, scored by the service while it is killed once in the middle.

    python tests/benchmarks/batch_scoring.py [--rows 10000000]

20 numeric and 5 categorical columns; a model of 100 boosting iterations is trained, packaged, judged and promoted by
the embedded stack first. Then `tidemill score`; once half of the rows are done the serving process gets kill -9, its
supervisor starts it again, and the batch goes on after the last finished part. Memory is the sum over the serving
process and its children, sampled ten times a second. The rows per second are those between the first and the last
finished part of a life of the process; the pause is what the kill cost. The last line is one JSON object.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from tidemill_console.connection import Client, connected
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import BatchProgressed
from tidemill_contracts.registry import parse_as
from tidemill_contracts.streams import stream_key

TIDEMILL = str(Path(sys.executable).parent / "tidemill")
GROUP_ROWS = 100_000
SPEC = {
    "name": "scored",
    "task": "classification",
    "target": "y",
    "positive": 1,
    "primary": "f1",
    "search": {"families": ["hist_gradient_boosting"], "trials": 1, "seconds": 120},
}


def rows(count: int, seed: int) -> pa.Table:
    """20 numbers and 5 categories a row."""
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {f"n{i}": random.normal(size=count).astype(np.float32) for i in range(20)}
    for i in range(5):
        levels = [f"v{j}" for j in range(8)]
        columns[f"c{i}"] = pa.DictionaryArray.from_arrays(random.integers(0, 8, count, np.int8), levels).cast("string")
    return pa.table(columns)


def learning_rows(path: Path) -> None:
    """5 000 rows with a target."""
    table = rows(5_000, 0)
    z = table["n0"].to_numpy() * table["n1"].to_numpy() + (np.array(table["c0"]) == "v1")
    pq.write_table(table.append_column("y", pa.array((z > np.median(z)).astype(int))), path)


def tidemill(*words: str) -> str:
    """Run the command; its standard output."""
    done = subprocess.run([TIDEMILL, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"tidemill {' '.join(words)}: {done.stderr}")
    return done.stdout


def prepare(folder: Path, count: int) -> Path:
    """A running stack whose champion answers, and the file."""
    (folder / "spec.json").write_text(json.dumps(SPEC))
    learning_rows(folder / "learn.parquet")
    tidemill("up")
    tidemill("declare", str(folder / "spec.json"))
    tidemill("publish", "scored", str(folder / "learn.parquet"))
    tidemill("wait", "scored")
    file = folder / "rows.parquet"
    first = rows(GROUP_ROWS, 1)
    with pq.ParquetWriter(file, first.schema) as writer:
        for start in range(0, count, GROUP_ROWS):
            writer.write_table(rows(min(GROUP_ROWS, count - start), 1 + start // GROUP_ROWS % 20))
    return file


def serving(directory: Path) -> psutil.Process | None:
    """The serving process of this stack."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[-1:] == ["tidemill_serving"] and str(directory) in str(process.environ()):
                return process
    return None


def resident(process: psutil.Process | None) -> int:
    """Bytes of a process and its descendants; 0 when it is gone."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for each in [process, *process.children(recursive=True)] if process else ():
            with contextlib.suppress(psutil.Error):
                total += each.memory_info().rss
    return total


async def progress(client: Client) -> list[tuple[float, int]]:
    """When, and how many rows were done."""
    entries: Any = await client.bus.redis.xrange(stream_key(client.namespace, BatchProgressed.type_name()))
    return [
        (int(entry.split(b"-")[0]) / 1000, parse_as(BatchProgressed, fields[FIELD.encode()]).data.rows)
        for entry, fields in entries
    ]


async def watch(scoring: "subprocess.Popen[str]", directory: Path, count: int) -> tuple[int, float, list[Any]]:
    """Sample memory, kill once; the highest memory, the time of the kill, and the progress."""
    peak, killed = 0, 0.0
    process = serving(directory)
    async with connected() as client:
        while scoring.poll() is None:
            peak = max(peak, resident(process))
            done = await progress(client)
            if not killed and done and done[-1][1] >= count // 2 and process:
                process.kill()
                killed = time.time()
                print(f"killed at {done[-1][1]:,} rows", flush=True)
            if process is None or not process.is_running():
                process = serving(directory)
            await asyncio.sleep(0.1)
        return peak, killed, await progress(client)


def speed(told: list[tuple[float, int]], killed: float) -> float:
    """Rows per second while it worked."""
    lives = [[t for t in told if t[0] <= killed], [t for t in told if t[0] > killed]]
    lives = [life for life in lives if len(life) > 1]
    return sum(life[-1][1] - life[0][1] for life in lives) / sum(life[-1][0] - life[0][0] for life in lives)


def once(numbers: Any) -> int:
    """How many numbers come exactly once."""
    return int((np.unique(numbers, return_counts=True)[1] == 1).sum())


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    arguments, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        directory = folder / "state"
        os.environ["TIDEMILL_DIRECTORY"] = str(directory)
        try:
            file = prepare(folder, arguments.rows)
            started = time.time()
            command = [TIDEMILL, "score", "scored", str(file), "-o", str(folder / "out.parquet"), "--json"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as scoring:
                peak, killed, told = asyncio.run(watch(scoring, directory, arguments.rows))
                assert scoring.stdout
                completed = json.loads(scoring.stdout.read())
            seconds = time.time() - started
            numbers = pq.read_table(folder / "out.parquet", columns=["row"])["row"].to_numpy()
        finally:
            subprocess.run([TIDEMILL, "down"], check=False, capture_output=True)
    after = min((at for at, _ in told if at > killed), default=killed)
    found = {
        "rows": arguments.rows,
        "results": len(numbers),
        "each_row_once": bool(len(numbers) == arguments.rows and (numbers == np.arange(arguments.rows)).all()),
        "rows_without_exactly_one_result": arguments.rows - once(numbers),
        "failed": completed["failed"],
        "killed": bool(killed),
        "rows_per_second": round(speed(told, killed)),
        "seconds_from_kill_to_next_part": round(after - killed, 1),
        "seconds_with_upload_and_download": round(seconds, 1),
        "resident_mb": round(peak / 1e6),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
