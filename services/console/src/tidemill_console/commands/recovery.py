"""``backup`` and ``restore``."""

from collections import Counter
from typing import Annotated, Any

import typer

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import connected, settings
from tidemill_console.output import run, say, show_json
from tidemill_console.recovery.backup import Backup, put_back, take
from tidemill_console.recovery.owed import Owed
from tidemill_console.recovery.place import place
from tidemill_contracts.envelope import Event

_AT_ONCE = 100


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
    """After Redis was lost: say again what the object store shows to be unfinished. Harmless when nothing was lost."""
    copied, events = run(_restore(source))
    said = Counter(event.type for event in events)
    if as_json:
        show_json({"objects": copied, "events": dict(said)})
        return
    for type_, count in said.items():
        say(f"{type_}: {count} published again")
    say("restored: the services go on from here; see `tidemill status`")


async def _restore(source: str | None) -> tuple[int, list[Event[Any]]]:
    async with connected() as client:
        copied = await put_back(client.store, place(source, settings().store), say) if source else 0
        await client.pipelines.load()
        events = await Owed(client.store, client.pipelines).events()
        for first in range(0, len(events), _AT_ONCE):
            await client.bus.publish(*events[first : first + _AT_ONCE])
        return copied, events
