"""``trial``: what is tried beside a champion, and how a person hastens or ends it."""

import asyncio
import getpass
from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from tidemill_console.asking import ask, require
from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import Client, connected
from tidemill_console.output import results, run, say, show_json
from tidemill_console.trials import Standing, log_of, standing
from tidemill_contracts.events import TrialRequested
from tidemill_contracts.rollout import RequestedTrial, Trial
from tidemill_shared.errors import TidemillError

app = typer.Typer(no_args_is_help=True, help="Challengers tried beside a champion.")
Pipeline = Annotated[str, typer.Argument(help="The pipeline.")]
Reason = Annotated[str, typer.Option(help="Kept in the log of trials.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for it; 0 does not wait.")]
Action = Literal["advance", "promote", "end"]


@app.command()
def show(pipeline: Pipeline, as_json: AsJson = False) -> None:
    """What is tried now with its counts, and every step of the past with its reason."""
    found = run(_show(pipeline))
    if as_json:
        show_json(_document(found))
        return
    table = Table("entry", "version", "stage", "share", "when", "reason")
    for t in found.log:
        share = f"{t.share:.0%}" if t.share else ""
        table.add_row(str(t.sequence), t.version, t.stage, share, f"{t.decided_at:%Y-%m-%d %H:%M:%S}", t.reason)
    results.print(table if found.log else f"nothing was ever tried beside a champion of {pipeline}")
    for sentence in _now(found):
        results.print(sentence, markup=False)


@app.command()
def advance(
    pipeline: Pipeline, reason: Reason = "asked for by a person", wait: Wait = 30.0, as_json: AsJson = False
) -> None:
    """Go on to the next stage now; after the last one the challenger is promoted."""
    _tell(run(_ask(pipeline, "advance", reason, wait)), as_json)


@app.command()
def promote(
    pipeline: Pipeline, reason: Reason = "asked for by a person", wait: Wait = 30.0, as_json: AsJson = False
) -> None:
    """Promote the challenger now, whatever stages are left."""
    _tell(run(_ask(pipeline, "promote", reason, wait)), as_json)


@app.command()
def end(
    pipeline: Pipeline,
    reason: Reason = "asked for by a person",
    refuse: Annotated[bool, typer.Option(help="Never try or promote this challenger again.")] = False,
    wait: Wait = 30.0,
    as_json: AsJson = False,
) -> None:
    """Stop trying the challenger; the champion answers everything."""
    _tell(run(_ask(pipeline, "end", reason, wait, refuse=refuse)), as_json)


def _tell(entry: Trial | None, as_json: bool) -> None:
    if as_json:
        show_json(entry.model_dump(mode="json") if entry else None)
    elif entry is None:
        say("asked")
    else:
        share = f", {entry.share:.0%} of the requests" if entry.share else ""
        say(f"{entry.version}: {entry.stage}{share}; {entry.reason}")


def _document(found: Standing) -> dict[str, Any]:
    trial = found.trial
    return {
        "trial": trial.model_dump(mode="json") if trial else None,
        "champion": found.champion.version if found.champion else None,
        "counted": asdict(found.counted) if found.counted else None,
        "log": [t.model_dump(mode="json") for t in found.log],
    }


def _now(found: Standing) -> list[str]:
    counted, trial, champion = found.counted, found.trial, found.champion
    said = []
    if trial:
        share = f", {trial.share:.0%} of the requests" if trial.share else ""
        said.append(f"{trial.version} is tried beside {trial.against}: {trial.stage}{share}, entry {trial.sequence}")
    elif counted and champion:
        said.append(f"{champion.version} is watched beside the champion before it, promotion {champion.sequence}")
    else:
        said.append("nothing is tried now")
    if counted:
        rows = f"{counted.rows} rows, {counted.failed} failed"
        said.append(f"so far: {rows}; the other model {counted.champion_rows}, {counted.champion_failed} failed")
    return said


async def _show(pipeline: str) -> Standing:
    async with connected() as client:
        await require(client, pipeline)
        return await standing(client, pipeline)


async def _ask(pipeline: str, action: Action, reason: str, wait: float, *, refuse: bool = False) -> Trial | None:
    async with connected() as client:
        await require(client, pipeline)
        trial = (await standing(client, pipeline)).trial
        if trial is None:
            raise TidemillError(f"{pipeline} tries nothing now; `tidemill trial show {pipeline}` shows what was tried")
        data = RequestedTrial(
            action=action, trial=trial.sequence, refuse=refuse, by=getpass.getuser(), reason=reason[:500]
        )
        event = await ask(client, TrialRequested.root(data, subject=pipeline, source="urn:tidemill:console"))
        return await _followed(client, event, trial, wait) if wait else None


async def _followed(client: Client, event: TrialRequested, before: Trial, wait: float) -> Trial:
    """The entry that the request led to."""
    log = log_of(client, event.pipeline)
    deadline = asyncio.get_running_loop().time() + wait
    while asyncio.get_running_loop().time() < deadline:
        later = [trial for sequence, trial in await log.entries() if sequence > before.sequence]
        done = next((trial for trial in later if trial.cause == event.id), None)
        if done:
            return done
        if later:
            gone = f"{later[0].stage} ({later[0].reason})"
            raise TidemillError(f"the trial went on by itself before it was asked: {gone}; look, and ask again")
        await asyncio.sleep(0.1)
    raise TidemillError(f"nothing happened within {wait:.0f} s: is validation ready? (tidemill status)")
