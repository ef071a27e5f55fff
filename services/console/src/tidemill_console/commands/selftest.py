"""``selftest``: how well a pipeline's drift settings see."""

import json
import subprocess
import sys
from typing import Annotated, Any

import typer
from rich.table import Table

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import connected
from tidemill_console.output import fail, results, run, say, show_json
from tidemill_contracts.artifacts import promotions_prefix
from tidemill_contracts.package import PackageManifest, Reference
from tidemill_contracts.promotion import Promotion
from tidemill_shared.append_log import AppendLog
from tidemill_shared.errors import TidemillError

_SECONDS = 900.0


def selftest(
    pipeline: Annotated[str, typer.Argument(help="The pipeline.")],
    trials: Annotated[int, typer.Option(min=1, max=1_000, help="Of each change.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Put known changes into the champion's reference: what is missed, what is a false alarm, how long it takes."""
    spec, reference = run(_champion(pipeline))
    say(f"trying each change {trials} times at the pipeline's own settings")
    try:
        card = _grade({"spec": spec, "reference": reference, "trials": trials})
    except TidemillError as error:
        fail(str(error))
    if as_json:
        show_json(card)
        return
    results.print(
        f"{card['windows']} quiet windows: {card['beyond']} beyond chance (asked for: {card['rate']:.1%}), "
        f"{card['drifts']} called drift"
    )
    table = Table("watch", "column", "change", "caught", "rows until then")
    for t in card["trials"]:
        delay = "-" if t["delay_rows"] is None else f"{t['delay_rows']:.0f}"
        table.add_row(t["watch"], t["column"], t["change"], f"{t['caught']} of {t['trials']}", delay)
    results.print(table)


async def _champion(pipeline: str) -> tuple[dict[str, Any], dict[str, Any]]:
    async with connected() as client:
        spec = await client.pipelines.spec(pipeline)
        if spec is None:
            raise TidemillError(f"{pipeline}: no such pipeline is declared")
        last = await AppendLog(client.store, promotions_prefix(pipeline), Promotion).last()
        if last is None:
            raise TidemillError(f"{pipeline} has no champion yet: wait for one with `tidemill wait {pipeline}`")
        manifest = await client.store.document(last[1].manifest, PackageManifest)
        reference = await client.store.document(manifest.files["reference.json"], Reference)
        return spec.model_dump(mode="json"), reference.model_dump(mode="json")


def _grade(asked: dict[str, Any]) -> dict[str, Any]:
    """The detectors are the monitor's own, in a process of theirs: the console never imports a service."""
    command = [sys.executable, "-m", "tidemill_monitoring.selftest"]
    done = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise TidemillError(f"the monitor could not grade itself: {last}")
    card: dict[str, Any] = json.loads(done.stdout)
    return card
