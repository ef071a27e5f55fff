"""``make acceptance``: every case through the real services, beside the other policies and beside its offline twin.

Ends with one JSON object a case and policy, medians and worst over the seeds, with what it reached of the targets.
``--twin`` leaves the services out: the same policy in one process, for many seeds in little time.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parent))

from streams import CASES, KINDS
from twin import Twin

from tidemill_console.acceptance.command import reports, show, show_targets
from tidemill_console.acceptance.live import Play
from tidemill_console.acceptance.outcome import Outcome
from tidemill_console.acceptance.specification import specification
from tidemill_console.acceptance.targets import judged
from tidemill_console.connection import connected
from tidemill_console.stack import Stack

BLOCK = 250
PLUMBING = 0.01
"""The most that the score of the real services may differ from their twin's."""


def main() -> int:
    """1 when the plumbing added something, or a row went unanswered."""
    options = _options()
    jobs = [(case, seed) for case in options.cases for seed in options.seeds]
    live: dict[tuple[str, int], Outcome] = {}
    if not options.twin:
        with tempfile.TemporaryDirectory(prefix="tidemill-acceptance-") as folder:
            live = _live(Path(folder) / "state", jobs, options.at_once)
    with ProcessPoolExecutor(options.processes, get_context("spawn"), initializer=_end_with_parent) as pool:
        played = [pool.submit(_offline, case, seed, live.get((case, seed)), options.row_policy) for case, seed in jobs]
        rows = [row | {"case": job[0]} for job, done in zip(jobs, played, strict=True) for row in done.result()]
    show(rows)
    if options.rows:
        rows = _together(options.rows, rows)
    cases = dict.fromkeys(row["case"] for row in rows)
    summary = [_summary(case, policy, rows) for case in cases for policy in _policies(case, rows)]
    show_targets(summary)
    for line in summary:
        sys.stdout.write(json.dumps(line) + "\n")
    apart = [line for line in summary if line.get("worst_from_twin", 0.0) > PLUMBING]
    return int(bool(apart) or any(row["unanswered"] for row in rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--rows", type=Path, help="a file: rows of earlier plays, which count too")
    parser.add_argument("--twin", action="store_true", help="offline only")
    parser.add_argument("--at-once", type=int, default=4, help="pipelines that play at a time")
    parser.add_argument("--processes", type=int, default=2, help="for what is computed offline")
    parser.add_argument("--row-policy", choices=("since", "evidence"), default="since", help="only with --twin")
    options = parser.parse_args()
    if options.row_policy != "since" and not options.twin:
        parser.error("--row-policy: the services are played with the product's default; add --twin")
    return options


def _together(file: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of earlier plays and these; of two plays of a stream the later one counts."""
    with file.open("a") as opened:
        opened.writelines(json.dumps(row) + "\n" for row in rows)
    every = [json.loads(line) for line in file.read_text().splitlines()]
    return list({(row["case"], row["stream"], row["policy"]): row for row in every}.values())


def _live(directory: Path, jobs: list[tuple[str, int]], at_once: int) -> dict[tuple[str, int], Outcome]:
    def tell(sentence: str) -> None:
        sys.stderr.write(sentence + "\n")

    os.environ["TIDEMILL_DIRECTORY"] = str(directory)
    stack = Stack(directory)
    stack.up(tell)
    try:
        return asyncio.run(_play(jobs, at_once))
    finally:
        stack.down(tell)


async def _play(jobs: list[tuple[str, int]], at_once: int) -> dict[tuple[str, int], Outcome]:
    places = asyncio.Semaphore(at_once)

    async def one(client: Any, case: str, seed: int) -> Outcome:
        async with places:
            run = f"{case.replace('_', '-')}-{seed}"
            return await Play(client, CASES[case](seed), run=run, seed=seed, block=BLOCK).outcome()

    async with connected() as client:
        return dict(zip(jobs, await asyncio.gather(*(one(client, *job) for job in jobs)), strict=True))


def _end_with_parent() -> None:
    """A pool's process would compute on, and then wait for ever, where the one that made it was killed."""

    def watch() -> None:
        parent = parent_process()
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _offline(case: str, seed: int, live: Outcome | None, row_policy: str) -> list[dict[str, Any]]:
    """Reports of ours (and of its twin, which is ours where there are no services) and of the others."""
    with threadpool_limits(1):
        stream = CASES[case](seed)
        spec = specification(stream, "twin", seed, BLOCK)
        retrain = spec.retrain.model_copy(update={"rows": row_policy})
        twin = Twin(stream, seed=seed, block=BLOCK, spec=spec.model_copy(update={"retrain": retrain})).play()
        return reports(stream, [live, twin] if live else [twin], seed, BLOCK)


def _policies(case: str, rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["policy"] for row in rows if row["case"] == case))


def _summary(case: str, policy: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    of_case = [row for row in rows if row["case"] == case]
    ours = [row for row in of_case if row["policy"] == policy]
    shares = [share for row in ours for share in row["recovered_share"]]
    delays = [delay for row in ours for delay in row["detected_after"]]
    found = [delay for delay in delays if delay is not None]
    line = {
        "case": case,
        "policy": policy,
        "seeds": len(ours),
        "accuracy_median": statistics.median(row["score"] for row in ours),
        "accuracy_worst": min(row["score"] for row in ours),
        "last_quarter_median": statistics.median(row["last_quarter"] for row in ours),
        "recovered_share_median": statistics.median(shares) if shares else None,
        "recovered_share_worst": min(shares, default=None),
        "detected_after_median": statistics.median(found) if found else None,
        "detected_after_worst": max(found, default=None),
        "undetected": len(delays) - len(found),
        "retrains_median": statistics.median(row["retrains"] for row in ours),
        "retrains_worst": max(row["retrains"] for row in ours),
        "retrains_a_change_worst": max((n for row in ours for n in row["retrains_a_change"]), default=None),
        "breaker": {row["stream"]: row["breaker"] for row in ours if row.get("breaker")},
        "targets": judged(KINDS[case], ours, of_case),
    }
    twins = {row["stream"]: row["score"] for row in rows if row["policy"] == "twin"}
    if policy == "tidemill":
        line["worst_from_twin"] = round(max(abs(row["score"] - twins[row["stream"]]) for row in ours), 4)
    return line


if __name__ == "__main__":
    sys.exit(main())
