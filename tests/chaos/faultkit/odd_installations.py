"""Scenarios: services of two adjacent versions of the contracts at once, and services whose clocks are an hour off."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import tidemill_contracts
from faultkit import load
from faultkit.scenario import Run

_HOUR = 3600
_OFF = {"training-1": _HOUR, "serving-2": -_HOUR, "validation-1": -_HOUR}
_NEXT = {"ingestion-1", "packaging-1", "serving-2", "monitoring-1"}
_BASE = "class Document(BaseModel):"
_CLOCK = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += OFFSET;
  return failed;
}
time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
int gettimeofday(struct timeval *restrict out, void *restrict zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return 0;
}
"""


def next_version(folder: Path, instance: str) -> Mapping[str, str]:
    """Some services see the contracts of a next release, in which every event and document has one more field."""
    if instance not in _NEXT:
        return {}
    copy = folder / "next" / "tidemill_contracts"
    if not copy.exists():
        shutil.copytree(Path(tidemill_contracts.__file__).parent, copy)
        base = copy / "document.py"
        text = base.read_text()
        assert _BASE in text
        end = text.index("    def to_json")
        base.write_text(text[:end] + "    of_the_next_release: int | None = 7\n\n" + text[end:])
    return {"PYTHONPATH": str(folder / "next")}


def other_clock(folder: Path, instance: str) -> Mapping[str, str]:
    """Some services live an hour ahead or behind; with a C compiler only, which the small library below takes."""
    offset = _OFF.get(instance)
    compiler = shutil.which("cc")
    if offset is None or compiler is None:
        return {}
    library = folder / f"clock{offset}.so"
    source = folder / "clock.c"
    source.write_text(_CLOCK)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", f"-DOFFSET=({offset})", "-o", library, source], check=True
    )  # fmt: skip
    return {"LD_PRELOAD": str(library)}


async def goes_on(run: Run) -> None:
    """The whole loop works: rows, a training, a promotion, answers."""
    if run.fleet.odd == 0:
        run.evidence.figures["skipped"] = 1
    await load.arrivals(run.client, run.fleet.directory, 2, "odd")
    await load.training(run.client)
    names = [f"odd-{number}" for number in range(3)]
    for name in names:
        await load.declare(run.client, name, run.fleet.directory / "rows.csv")
    await run.publish(500, 0.25)
    if missing := await load.without_champion(run.client, names, 120):
        run.evidence.complaints.append(f"I7: {len(missing)} of {len(names)} pipelines have no model")
    await run.answered()
