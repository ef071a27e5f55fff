"""``tidemill acceptance``."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer
from rich.table import Table

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import connected, directory
from tidemill_console.output import FAILED, USAGE, fail, notes, run, say, show_json
from tidemill_console.stack import Stack
from tidemill_shared.errors import TidemillError

if TYPE_CHECKING:
    from tidemill_console.acceptance.targets import Kind


def acceptance(
    file: Annotated[Path, typer.Option("--stream", help="Parquet or CSV, one row an event, in order.")],
    target: Annotated[str, typer.Option(help="The column that holds the truth.")] = "target",
    delay: Annotated[str | None, typer.Option(help="A column: rows until the label is known, negative: never.")] = None,
    change: Annotated[str | None, typer.Option(help="A column: true where a concept begins, or its name.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="A column that is no feature; repeatable.")] = None,
    first: Annotated[int, typer.Option(min=100, help="Rows of the first data set.")] = 2_000,
    block: Annotated[int, typer.Option(min=20, help="Rows published at a time.")] = 250,
    seed: Annotated[int, typer.Option(min=0, help="Of the search and of the other policies.")] = 0,
    external: Annotated[bool, typer.Option("--external", help="Use the stack that TIDEMILL_ variables name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Play a labelled stream through the whole loop, beside static, periodic and other policies."""
    try:
        from tidemill_console.acceptance import reading
    except ImportError as error:
        fail(f"{error.name} is missing: install tidemill-console[demo]", USAGE)
    try:
        played = reading.read(file, target, delay=delay, change=change, exclude=tuple(exclude or ()), first=first)
    except (OSError, ValueError) as error:
        fail(f"{file}: {error}", USAGE)
    for remark in played.remarks:
        say(remark)
    stack = None if external else Stack(directory())
    started_here = stack is not None and not stack.running()
    try:
        if stack:
            stack.up(say)
        rows = run(play(played, seed, block))
    except TidemillError as error:
        fail(str(error))
    finally:
        if stack and started_here and stack.running():
            stack.down(lambda _: None)
    show(rows)
    judge("abrupt" if played.changes else "unknown", rows)
    show_targets([{"case": row["stream"], **row} for row in rows])
    if as_json:
        for row in rows:
            show_json(row)
    if any(row["unanswered"] for row in rows):
        raise typer.Exit(FAILED)


async def play(stream: Any, seed: int, block: int, name: str | None = None) -> list[dict[str, Any]]:
    """One report a policy, ours first."""
    from tidemill_console.acceptance.live import Play

    say(f"{stream.name}: {stream.first} rows to begin with, then {len(stream) - stream.first} live ones")
    async with connected() as client:
        ours = await Play(client, stream, run=name or uuid4().hex[:8], seed=seed, block=block).outcome()
    return await asyncio.to_thread(reports, stream, [ours], seed, block)


def reports(stream: Any, ours: list[Any], seed: int, block: int) -> list[dict[str, Any]]:
    """What ``ours`` did, and what the other policies would have done."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    from tidemill_console.acceptance.outcome import reachable, report
    from tidemill_console.acceptance.policies import policies

    with threadpool_limits(1):  # OpenMP's busy waiting takes the cores from the services and saves hardly any time
        reached = reachable(stream, seed)
        return [report(stream, outcome, reached) for outcome in (*ours, *policies(stream, block, seed))]


def judge(kind: "Kind", rows: list[dict[str, Any]]) -> None:
    """Each row with its ``targets``; changes are taken for abrupt ones."""
    from tidemill_console.acceptance.targets import judged

    for row in rows:
        row["targets"] = judged(kind, [row], rows)


def show(rows: list[dict[str, Any]]) -> None:
    """The table a person reads."""
    columns = ("stream", "policy", "score", "last quarter", "recovered", "detected after", "retrains")
    metrics = {"accuracy": "Accuracy", "r2": "R²"}
    title = " and ".join(dict.fromkeys(metrics[row["metric"]] for row in rows))
    table = Table(*columns, title=f"{title} over the live rows", title_justify="left")
    for row in rows:
        shares = " ".join(f"{s:.2f}" for s in row["recovered_share"])
        after = " ".join("-" if d is None else str(d) for d in row["detected_after"])
        numbers = (f"{row['score']:.3f}", f"{row['last_quarter']:.3f}", shares, after, str(row["retrains"]))
        table.add_row(row["stream"], row["policy"], *numbers)
    notes.print(table)
    sys.stderr.flush()


def show_targets(lines: list[dict[str, Any]]) -> None:
    """What Tidemill (offline: its twin) reached of what is promised, beside the bounds."""
    ours = {line["case"]: line for line in reversed(lines) if line["policy"] in ("tidemill", "twin")}
    table = Table("case", "target", "bound", "worst", "median", "short", "", title="Targets", title_justify="left")
    for case, line in reversed(ours.items()):
        for name, found in line["targets"].items():
            bound = f"{'≥' if found['must_be'] == 'at least' else '≤'} {found['bound']:g}"
            worst = "never" if found["of"] and found["worst"] is None else _number(found["worst"])
            said = {True: "met", False: "SHORT", None: "no figure"}[found["met"]]
            short = f"{found['short']} of {found['of']}"
            table.add_row(case, name.replace("_", " "), bound, worst, _number(found["median"]), short, said)
    notes.print(table)
    sys.stderr.flush()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
