"""``backup`` and ``restore``."""

from dataclasses import asdict
from typing import Annotated

import typer

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import connected, settings
from tidemill_console.output import run, say, show_json
from tidemill_console.recovery import restoring
from tidemill_console.recovery.backup import Backup, take
from tidemill_console.recovery.place import place
from tidemill_console.recovery.restoring import Restored


def backup(
    to: Annotated[str, typer.Option(help="A directory, or s3://bucket/prefix of the same object store.")],
    as_json: AsJson = False,
) -> None:
    """Copy the object store, which holds everything that must not be lost. The credentials are not in it."""
    taken = run(_backup(to))
    size = sum(ref.size for ref in taken.objects)
    if as_json:
        show_json({"objects": len(taken.objects), "bytes": size, "to": to})
    else:
        say(f"{len(taken.objects)} objects, {size / 1e6:.1f} MB in {to}; keep the credentials too, elsewhere")


async def _backup(to: str) -> Backup:
    async with connected() as client:
        return await take(client.store, place(to, settings().store), say)


def restore(
    source: Annotated[
        str | None, typer.Option("--from", help="A backup: put back the objects that the store lacks first.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """After Redis was lost: put the past back, say again what is unfinished. Harmless when nothing was lost."""
    done = run(_restore(source))
    if as_json:
        show_json(asdict(done))
        return
    say(f"{done.past} events of the past are back in their streams")
    for type_, count in done.events.items():
        say(f"{type_}: {count} published again")
    say("restored: the services go on from here; see `tidemill status`")


async def _restore(source: str | None) -> Restored:
    async with connected() as client:
        return await restoring.restore(client, place(source, settings().store) if source else None, say)
