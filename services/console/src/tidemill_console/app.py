"""The commands, in the order in which a newcomer meets them."""

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from tidemill_console.acceptance.command import acceptance
from tidemill_console.commands import (
    credentials,
    data,
    dead_letters,
    declare,
    example,
    models,
    package,
    predictions,
    recovery,
    report,
    score,
    selftest,
    stack,
    trace,
    trial,
    wait,
    watch,
)
from tidemill_console.demo.command import demo
from tidemill_console.drill.command import drill

app = typer.Typer(
    name="tidemill",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A machine-learning system that keeps itself fresh.",
)


@app.callback()
def options(
    directory: Annotated[
        Path | None, typer.Option(help="Where the embedded stack lies.", show_default=".tidemill")
    ] = None,
) -> None:
    """Options of every command."""
    if directory:
        os.environ["TIDEMILL_DIRECTORY"] = str(directory)
    # Being terminated is being interrupted: what a command started, it stops.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


app.command()(demo)
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(credentials.redis_url)
app.command()(credentials.rotate)
app.command()(example.example)
app.command()(declare.declare)
app.command()(data.publish)
app.command()(wait.wait)
app.command()(predictions.predict)
app.command()(score.score)
app.command()(predictions.labels)
app.command()(watch.watch)
app.command()(trace.trace)
app.command()(package.package)
app.command()(report.report)
app.command()(selftest.selftest)
app.command()(models.train)
app.command()(models.resume)
app.command()(models.approve)
app.command()(models.rollback)
app.command()(models.anchor)
app.command()(recovery.backup)
app.command()(recovery.restore)
app.command()(acceptance)
app.command()(drill)
app.add_typer(trial.app, name="trial")
app.add_typer(dead_letters.app, name="dead-letters")
