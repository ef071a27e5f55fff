"""``tidemill demo``."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.table import Table

from tidemill_console.commands.data import publish_file, wait_for_outcome
from tidemill_console.commands.declare import declare_pipeline
from tidemill_console.connection import connected, directory
from tidemill_console.demo.pipeline import SPEC
from tidemill_console.demo.plot import draw
from tidemill_console.demo.replay import Record, Replay, answering_delays
from tidemill_console.demo.scoring import Pairs, over
from tidemill_console.demo.seasons import FIRST_LIVE, Line, first_file, read
from tidemill_console.output import FAILED, fail, notes, run, say, show_json
from tidemill_console.stack import Stack
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import (
    DriftDetected,
    ModelDeployed,
    ModelPromoted,
    ModelRejected,
    PackagingFailed,
    PerformanceRecovered,
    RetrainSuppressed,
    TrainingFailed,
    TrainingGranted,
)
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_shared.errors import TidemillError

_RECOVERED = 0.95
"""Share of the periodic policy's F1 from which on the score counts as recovered."""
_LAST = 2007


def demo(
    pace: Annotated[str, typer.Option(help="Seconds a season, or `wait`: hold while a training is in flight.")] = "2.5",
    until: Annotated[int, typer.Option(min=FIRST_LIVE, max=_LAST, help="Last season.")] = _LAST,
    external: Annotated[
        bool, typer.Option("--external", "--compose", help="Use the stack that TIDEMILL_ variables name.")
    ] = False,
    keep: Annotated[bool, typer.Option(help="Leave the stack running afterwards.")] = False,
    plot: Annotated[Path, typer.Option(help="Where to draw the score: .svg or .png.")] = Path("tidemill-demo.svg"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line on stdout.")] = False,
) -> None:
    """Replay 137 seasons of baseball: the game changes, the model keeps up."""
    if pace != "wait" and not pace.replace(".", "", 1).isdigit():
        raise typer.BadParameter("a number of seconds or `wait` is expected", param_hint="--pace")
    stack = None if external else Stack(directory())
    started_here = stack is not None and not stack.running()
    try:
        if stack:
            say(f"bringing up the stack in {stack.directory}: redis-server, an S3 server, six services; no Docker")
            stack.up(say)
        report = run(_demo(pace, until, stack, plot))
    except TidemillError as error:
        fail(str(error))
    finally:
        if stack and started_here and not keep:
            stack.down(lambda _: None)
            say(f"the stack is down; its data stays in {stack.directory}")
    if as_json:
        show_json(report)
    if not report["passed"]:
        raise typer.Exit(FAILED)


async def _demo(pace: str, until: int, stack: Stack | None, plot: Path) -> dict[str, Any]:
    begun = time.monotonic()
    seasons = read()
    # A name of its own for each run, so that a second run on the same stack is a new story.
    run_id = uuid4().hex[:6]
    spec = SPEC.model_copy(update={"name": f"{SPEC.name}-{run_id}"})
    comparing = await _baselines(until)
    async with connected() as client:
        replay = Replay(client, spec.name, run_id, _tell)
        collecting = asyncio.create_task(replay.collect())
        try:
            await _first_model(client, spec, seasons, replay)
            await asyncio.sleep(1.0)
            at_rest = stack.resident_bytes() if stack else None
            await _play(replay, seasons, pace, until)
        finally:
            collecting.cancel()
    out, _ = await comparing.communicate()
    others = json.loads(out)
    report = _report(replay.record, seasons, others, until)
    report |= {"seconds": round(time.monotonic() - begun, 1), "pipeline": spec.name}
    report["rss_mb_at_rest"] = round(at_rest / 1e6) if at_rest else None
    _draw(plot, replay.record, seasons, others)
    report["plot"] = str(plot)
    _print(report)
    return report


async def _baselines(until: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tidemill_console.demo.baselines",
        str(until),
        stdout=asyncio.subprocess.PIPE,
        # One thread: OpenMP's busy waiting would take the cores from the services, and hardly be quicker.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: os.nice(5),
    )


async def _first_model(client: Any, spec: PipelineSpec, seasons: dict[int, list[Line]], replay: Replay) -> None:
    await declare_pipeline(client, spec)
    say(f"declared pipeline {spec.name}: {spec.description}")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "before-1915.csv"
        file.write_bytes(first_file(seasons))
        event_id = str(uuid4())
        await publish_file(client, spec.name, file, ".csv", event_id)
    outcome = await wait_for_outcome(client, event_id, 60)
    if outcome is None or outcome.prepared is None:
        why = outcome.rejected.reasons[0].message if outcome and outcome.rejected else "no outcome within 60 s"
        raise TidemillError(f"the first data set was not prepared: {why}")
    made = outcome.prepared
    say(f"seasons 1871 to 1914 became dataset {made.version}: {made.new_rows} rows")
    if not await replay.until(lambda: bool(replay.record.of(ModelDeployed)), 120):
        raise TidemillError("no first model within 120 s: see `tidemill status` and the logs")


async def _play(replay: Replay, seasons: dict[int, list[Line]], pace: str, until: int) -> None:
    years = [y for y in sorted(seasons) if FIRST_LIVE <= y <= until]
    say(
        f"replaying {years[0]} to {years[-1]}: " + ("holding for trainings" if pace == "wait" else f"{pace} s a season")
    )
    labelled, begun = 0, time.monotonic()
    for number, year in enumerate(years):
        if number:
            await replay.outcomes(seasons[years[number - 1]])
            labelled += len(seasons[years[number - 1]])
        if pace == "wait":
            await replay.settle(labelled)
        await replay.season(year, seasons[year])
        if pace == "wait":
            await replay.until(lambda: replay.record.answered == len(replay.record.sent), 60)
        else:
            await asyncio.sleep(max(0.0, begun + (number + 1) * float(pace) - time.monotonic()))
        if year % 10 == 9 or year == years[-1]:
            pairs = _pairs(replay.record, seasons)
            score, record = over(pairs, year - 9, year), replay.record
            say(f"{year}: F1 of the last ten seasons {score:.3f}; {record.answered} of {len(record.sent)} answered")
    await replay.outcomes(seasons[years[-1]])
    await replay.until(lambda: replay.record.answered == len(replay.record.sent), 60)
    if pace == "wait":
        await replay.settle(labelled + len(seasons[years[-1]]))


def _tell(event: Event[Any], season: int) -> None:
    data = event.data
    if isinstance(event, DriftDetected):
        notes.print(f"  [red]{season or 'before'}: {data.kind} drift[/], noticed in season {data.noticed_at:%Y}")
    elif isinstance(event, TrainingGranted):
        notes.print(f"  {season or 'before'}: training: {data.reason}")
    elif isinstance(event, ModelDeployed):
        notes.print(f"  [green]{season or 'before'}: model {data.version} answers[/]")
    elif isinstance(event, ModelPromoted):
        notes.print(f"  {season or 'before'}: promoted: {data.reason}", markup=False)
    elif isinstance(event, RetrainSuppressed):
        notes.print(f"  {season}: no training now ({data.reason}): {data.message}", markup=False)
    elif isinstance(event, (ModelRejected, PackagingFailed, TrainingFailed)):
        reasons = "; ".join(r.message for r in data.reasons)
        notes.print(f"  {season}: {event.type.rpartition('.v')[0]}: {reasons}", markup=False)
    elif isinstance(event, PerformanceRecovered):
        notes.print(f"  {season}: recovered: {data.metric} {data.score:.3f}")


def _pairs(record: Record, seasons: dict[int, list[Line]]) -> Pairs:
    pairs: Pairs = {}
    for prediction_id, line in record.sent.items():
        if prediction_id in record.predictions:
            pairs.setdefault(line.year, []).append((line.label, int(record.predictions[prediction_id])))
    return pairs


def _others(others: dict[str, Any], name: str, seasons: dict[int, list[Line]]) -> Pairs:
    return {
        int(year): [(line.label, p) for line, p in zip(seasons[int(year)], found, strict=True)]
        for year, found in others[name].items()
    }


def _report(record: Record, seasons: dict[int, list[Line]], others: dict[str, Any], until: int) -> dict[str, Any]:
    ours = _pairs(record, seasons)
    static, periodic = (_others(others, name, seasons) for name in ("static", "periodic"))
    decades = [
        {
            "decade": start,
            "rows": sum(len(ours.get(y, ())) for y in range(start, start + 10)),
            "static": round(over(static, start, start + 9), 3),
            "tidemill": round(over(ours, start, start + 9), 3),
            "periodic": round(over(periodic, start, start + 9), 3),
        }
        for start in range(FIRST_LIVE, until + 1, 10)
    ]
    refusals = [e.data.reason for e in record.of(RetrainSuppressed)] + ["gate" for _ in record.of(ModelRejected)]
    trainings = [e for e in record.of(TrainingGranted) if e.data.trigger != "first_data"]
    promotions = record.of(ModelPromoted)
    delays = answering_delays(record)
    first = min(1925, until)
    scores = {
        f"f1_{name}": round(over(pairs, first, until), 3)
        for name, pairs in (("static", static), ("periodic", periodic), ("tidemill", ours))
    }
    lost = len(record.sent) - record.answered
    recovered = scores["f1_tidemill"] >= _RECOVERED * scores["f1_periodic"] or until < 1930
    return scores | {
        "requests_sent": len(record.sent),
        "answered": record.answered,
        "lost": lost,
        "lost_seasons": sorted({line.year for i, line in record.sent.items() if not record.answers.get(i)}),
        "doubled": record.doubled,
        "raw_duplicates": record.raw_duplicates,
        "failed": len(record.failed),
        "drifts": len([e for e in record.of(DriftDetected) if e.data.kind == "concept"]),
        "drift_events": [
            {"kind": e.data.kind, "season": e.data.noticed_at.year, "seen_in": record.seasons[e.id]}
            for e in record.of(DriftDetected)
        ],
        "retrains": len(trainings),
        "retrains_periodic": others["retrains"],
        "promotions": len(promotions),
        "promotion_seasons": [record.seasons[e.id] for e in record.of(ModelDeployed)],
        "refusals": len(refusals),
        "refusals_by_reason": {reason: refusals.count(reason) for reason in sorted(set(refusals))},
        "seconds_from_drift_to_new_champion": [round(d, 1) for d in delays],
        "decades": decades,
        "passed": lost == 0 and record.doubled == 0 and recovered,
    }


def _draw(plot: Path, record: Record, seasons: dict[int, list[Line]], others: dict[str, Any]) -> None:
    policies = {
        "static": _others(others, "static", seasons),
        "every 2 000 rows": _others(others, "periodic", seasons),
        "Tidemill": _pairs(record, seasons),
    }
    drifts = [(e.data.noticed_at.year, e.data.kind) for e in record.of(DriftDetected)]
    promoted = [s for e in record.of(ModelDeployed) if (s := record.seasons[e.id])]
    draw(plot, policies, drifts, promoted)
    say(f"the score over the seasons: {plot}")


def _print(report: dict[str, Any]) -> None:
    table = Table("decade from", "rows", "static", "Tidemill", "every 2 000 rows", title="F1", title_justify="left")
    for d in report["decades"]:
        numbers = (f"{d[name]:.3f}" for name in ("static", "tidemill", "periodic"))
        table.add_row(str(d["decade"]), str(d["rows"]), *numbers)
    table.add_section()
    both = (f"{report[f'f1_{name}']:.3f}" for name in ("static", "tidemill", "periodic"))
    table.add_row("1925 to end", "", *both)
    notes.print(table)
    drifts = ", ".join(f"{d['kind']} {d['season']}" for d in report["drift_events"]) or "none"
    say(f"drift alarms: {drifts}")
    say(f"trainings after the first: {report['retrains']} (periodic: {report['retrains_periodic']}); promotions: "
        f"{report['promotions']}; refusals: {report['refusals_by_reason'] or 'none'}")  # fmt: skip
    say(f"seconds from alarm to the new champion answering: {report['seconds_from_drift_to_new_champion']}")
    say(f"requests {report['requests_sent']}, answered {report['answered']}, lost {report['lost']}, doubled "
        f"{report['doubled']} (raw duplicates {report['raw_duplicates']}), failed {report['failed']}")  # fmt: skip
    rss = f"; resident memory of the stack at rest {report['rss_mb_at_rest']} MB" if report["rss_mb_at_rest"] else ""
    say(f"{report['seconds']} s{rss}")
    if not report["passed"]:
        say("not passed: something was lost or doubled, or the score did not recover")
