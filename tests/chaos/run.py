"""The whole matrix: ``python tests/chaos/run.py [--only NAME] [--seed N] [--short] [--no-mutants]``.

Prints a table of scenarios, then of mutants; the last line is one JSON object. Exit code 1 when a scenario lost,
doubled or contradicted something, broke an invariant, or a mutant lived.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from faultkit import mutants, page
from faultkit.checker import Row, check
from faultkit.evidence import Evidence
from faultkit.scenario import SHORT, WHOLE, Size, play
from faultkit.scenarios import SCENARIOS


def line(row: Row) -> str:
    """A row for people."""
    recovery = "" if row.recovery_median is None else f"{row.recovery_median:.1f} / {row.recovery_max:.1f}"
    return (
        f"{row.scenario:<16} {row.seed:>5} {row.sent:>7} {row.answered:>8} {row.lost:>5} {row.duplicated_raw:>6} "
        f"{row.doubled:>7} {row.conflicting:>8} {row.dead_lettered:>6} {row.faults:>6} {recovery:>13} "
        f"{row.seconds:>7.1f} {'ok' if row.passed else 'FAILED'}"
        f"{''.join(f'  {k}={v:g}' for k, v in row.figures.items())}"
    )


HEAD = (
    f"{'scenario':<16} {'seed':>5} {'sent':>7} {'answered':>8} {'lost':>5} {'raw x2':>6} {'doubled':>7} "
    f"{'conflict':>8} {'dead':>6} {'faults':>6} {'recovery s':>13} {'seconds':>7}"
)


async def one(name: str, size: Size, seed: int, keep: Path | None) -> list[Row]:
    """A scenario on an installation of its own, printed as soon as it has ended."""
    folder = Path(tempfile.mkdtemp(prefix="tidemill-chaos-"))
    try:
        rows = [row async for row in play({name: SCENARIOS[name]}, folder, size, seed)]
    except Exception as error:
        complaint = f"I7: the scenario could not be played to its end: {type(error).__name__}: {error}"
        rows = [check(name, seed, 0.0, Evidence(complaints=[complaint[:2000]]))]
    finally:
        if keep:
            shutil.copytree(folder, keep / name.replace(" ", "-"), ignore=shutil.ignore_patterns("*.sock"))
        shutil.rmtree(folder, ignore_errors=True)
    for row in rows:
        print(line(row), flush=True)
        for violation in row.broken[:10]:
            print(f"    {violation}", flush=True)
    return rows


async def several(names: list[str], size: Size, seed: int, at_once: int, keep: Path | None) -> list[Row]:
    """Scenarios, so many at a time: they mostly wait for something to come up again."""
    turn = asyncio.Semaphore(at_once)

    async def take(name: str) -> list[Row]:
        async with turn:
            return await one(name, size, seed, keep)

    return [row for rows in await asyncio.gather(*map(take, names)) for row in rows]


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), help="a scenario; may be repeated")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--short", action="store_true", help="the sizes of the test suite")
    parser.add_argument("--deaths", type=int, help="of each service at each of its steps, in the kill points")
    parser.add_argument("--at-once", type=int, default=1, help="scenarios that run at the same time")
    parser.add_argument("--keep", type=Path, help="copy each installation, with its logs and histories, to here")
    parser.add_argument("--page", type=Path, help="write the figures between the marks of this page")
    parser.add_argument("--no-mutants", action="store_true")
    asked = parser.parse_args()
    print(HEAD, flush=True)
    size = SHORT if asked.short else WHOLE
    size = replace(size, deaths=asked.deaths or size.deaths)
    names = asked.only or list(SCENARIOS)
    rows = asyncio.run(several(names, size, asked.seed, asked.at_once, asked.keep))
    caught = [] if asked.no_mutants else list(mutants.run_all(print))
    result = {
        "rows": [row.as_dict() for row in rows],
        "lost": sum(r.lost for r in rows),
        "conflicting": sum(r.conflicting for r in rows),
        "doubled_after_dedupe": sum(r.doubled for r in rows),
        "invariants_broken": sum(len(r.broken) for r in rows),
        "mutants_caught": sum(found for _, found in caught),
        "mutants_total": len(caught),
        "seed": asked.seed,
    }
    if asked.page:
        page.write(asked.page, rows, caught)
    print(json.dumps(result))
    return 0 if all(r.passed for r in rows) and all(found for _, found in caught) else 1


if __name__ == "__main__":
    sys.exit(main())
