"""``tidemill drill``."""

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.table import Table

from tidemill_console.commands.models import Pipeline
from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import connected
from tidemill_console.output import FAILED, USAGE, fail, notes, run, say, show_json
from tidemill_console.stack import Stack
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_shared.errors import TidemillError

BLOCK = 250
_FIRST = 2_000
"""Rows of the first data set."""


def drill(
    pipeline: Pipeline,
    rows: Annotated[int, typer.Option(min=200, help="Newest rows that are replayed.")] = 5_000,
    calm: Annotated[int, typer.Option(min=250, help="Rows answered before the change.")] = 1_500,
    after: Annotated[int, typer.Option(min=1_000, help="Rows answered after it.")] = 3_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Exchange the classes of recent rows in a stack of its own, and see the whole loop recover."""
    try:
        from tidemill_console.drill import recent
    except ImportError as error:
        fail(f"{error.name} is missing: install tidemill-console[demo]", USAGE)

    async def stream() -> tuple[Any, PipelineSpec]:
        async with connected() as client:
            spec = await client.pipelines.spec(pipeline)
            if spec is None:
                raise TidemillError(f"no pipeline {pipeline!r} is declared")
            table, manifest = await recent.recent(client, spec, rows)
            if len(table) < _FIRST + calm + after:
                say(f"only {len(table)} rows are there: they are repeated, so the model answers rows that it has seen")
            return recent.changed(table, manifest, spec, first=_FIRST, calm=calm, after=after), spec

    report = _played(*run(stream()), seed)
    show(report)
    if as_json:
        show_json(report)
    if not report["recovered"]:
        raise typer.Exit(FAILED)


def _played(stream: Any, spec: PipelineSpec, seed: int) -> dict[str, Any]:
    """Through a stack of its own: other processes, another Redis, another store, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tidemill-drill-") as folder:
        stack = Stack(Path(folder) / "stack")
        before = dict(os.environ)
        for name in [n for n in os.environ if n.startswith("TIDEMILL_")]:
            del os.environ[name]
        os.environ["TIDEMILL_DIRECTORY"] = str(stack.directory)
        try:
            stack.up(say)
            return run(_outcome(stream, spec, seed))
        except TidemillError as error:
            fail(str(error))
        finally:
            if stack.running():
                stack.down(say)
            os.environ.clear()
            os.environ.update(before)


async def _outcome(stream: Any, spec: PipelineSpec, seed: int) -> dict[str, Any]:
    from tidemill_console.acceptance.live import Play
    from tidemill_console.acceptance.outcome import SETTLED, score
    from tidemill_console.acceptance.specification import rehearsal

    own = rehearsal(stream, spec, BLOCK)
    async with connected() as client:
        outcome = await Play(client, stream, run=uuid4().hex[:8], seed=seed, block=BLOCK, spec=own).outcome()
    begin, end = stream.changes[0], len(stream)
    alarm = next((row for row in outcome.alarms if row >= begin), None)
    promoted = next((row for row in outcome.promotions if row > begin), None)
    calm = score(stream, outcome, stream.first, begin)
    settled = score(stream, outcome, min(begin + SETTLED, end - BLOCK), end)
    return {
        "pipeline": spec.name,
        "accuracy_before": round(calm, 4),
        "accuracy_at_the_change": round(score(stream, outcome, begin, min(begin + BLOCK, end)), 4),
        "accuracy_after": round(settled, 4),
        "rows_to_detect": None if alarm is None else alarm - begin,
        "rows_to_a_new_champion": None if promoted is None else promoted - begin,
        "trainings": len([row for row in outcome.retrains if row > begin]),
        "refusals": outcome.refusals,
        "unanswered": int((outcome.predicted[stream.first :] == "").sum()),
        "recovered": settled >= own.drift.recovered_share * calm,
    }


def show(report: dict[str, Any]) -> None:
    """The table a person reads."""
    table = Table("what", "", title=f"Drill of {report['pipeline']}", title_justify="left")
    for name, value in report.items():
        if name != "pipeline":
            table.add_row(name.replace("_", " "), str(value))
    notes.print(table)
