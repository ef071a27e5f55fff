"""The whole matrix: ``python tests/chaos/run.py [--only NAME] [--seed N] [--short] [--no-mutants]``.

Prints a table of scenarios, then of mutants; the last line is one JSON object. Exit code 1 when a scenario lost,
doubled or contradicted something, broke an invariant, or a mutant lived.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from faultkit import mutants
from faultkit.checker import Row
from faultkit.scenarios import SCENARIOS, SHORT, WHOLE, Size, play


def line(row: Row) -> str:
    """A row for people."""
    recovery = "" if row.recovery_median is None else f"{row.recovery_median:.1f} / {row.recovery_max:.1f}"
    return (
        f"{row.scenario:<16} {row.seed:>5} {row.sent:>7} {row.answered:>8} {row.lost:>5} {row.duplicated_raw:>6} "
        f"{row.doubled:>7} {row.conflicting:>8} {row.dead_lettered:>6} {row.faults:>6} {recovery:>13} "
        f"{row.seconds:>7.1f} {'ok' if row.passed else 'FAILED'}"
    )


HEAD = (
    f"{'scenario':<16} {'seed':>5} {'sent':>7} {'answered':>8} {'lost':>5} {'raw x2':>6} {'doubled':>7} "
    f"{'conflict':>8} {'dead':>6} {'faults':>6} {'recovery s':>13} {'seconds':>7}"
)


async def one(name: str, folder: Path, size: Size, seed: int) -> list[Row]:
    """A scenario on an installation of its own, printed as soon as it has ended."""
    rows = [row async for row in play([name], folder, size, seed)]
    for row in rows:
        print(line(row), flush=True)
        for violation in row.broken[:10]:
            print(f"    {violation}", flush=True)
    return rows


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), help="a scenario; may be repeated")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--short", action="store_true", help="the sizes of the test suite")
    parser.add_argument("--no-mutants", action="store_true")
    asked = parser.parse_args()
    print(HEAD, flush=True)
    rows: list[Row] = []
    size = SHORT if asked.short else WHOLE
    for name in asked.only or SCENARIOS:
        with tempfile.TemporaryDirectory(prefix="tidemill-chaos-") as folder:
            rows += asyncio.run(one(name, Path(folder), size, asked.seed))
    caught = [] if asked.no_mutants else list(mutants.run_all(print))
    result = {
        "rows": [row.as_dict() for row in rows],
        "lost": sum(r.lost for r in rows),
        "conflicting": sum(r.conflicting for r in rows),
        "doubled_after_dedupe": sum(r.doubled for r in rows),
        "invariants_broken": sum(len(r.broken) for r in rows),
        "mutants_caught": sum(caught),
        "mutants_total": len(caught),
        "seed": asked.seed,
    }
    print(json.dumps(result))
    return 0 if all(r.passed for r in rows) and all(caught) else 1


if __name__ == "__main__":
    sys.exit(main())
