"""``dead-letters``: list, show, replay, drop."""

from typing import Annotated

import typer
from rich.table import Table

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import connected
from tidemill_console.output import results, run, say, show_json
from tidemill_shared.dead_letters import Buried, DeadLetters
from tidemill_shared.errors import TidemillError

app = typer.Typer(no_args_is_help=True, help="Events nobody could handle.")
LetterId = Annotated[str, typer.Argument(help="From `tidemill dead-letters list`.")]


@app.command("list")
def list_letters(
    count: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, oldest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """What lies there, oldest first."""
    found = run(_list(count))
    if as_json:
        show_json([{"id": b.id} | b.letter.model_dump(mode="json") for b in found])
        return
    table = Table("id", "service", "event", "reason", "message")
    for b in found:
        table.add_row(b.id, b.letter.group, b.letter.event_type or b.letter.stream, b.letter.reason, b.letter.message)
    results.print(table if found else "no dead letters")


@app.command()
def show(letter_id: LetterId) -> None:
    """One letter with its original bytes, as JSON."""
    b = run(_get(letter_id))
    show_json({"id": b.id} | b.letter.model_dump(mode="json") | {"body": b.body.decode(errors="backslashreplace")})


@app.command()
def replay(letter_id: LetterId) -> None:
    """Put the original event back into its stream."""
    run(_replay(letter_id))
    say(f"replayed {letter_id}")


@app.command()
def drop(letter_id: LetterId) -> None:
    """Remove a letter for good."""
    run(_drop(letter_id))
    say(f"dropped {letter_id}")


def _missing(letter_id: str) -> TidemillError:
    return TidemillError(f"no dead letter {letter_id}: see `tidemill dead-letters list`")


async def _list(count: int) -> list[Buried]:
    async with connected() as client:
        return await DeadLetters(client.bus.redis, client.namespace).list(count)


async def _get(letter_id: str) -> Buried:
    async with connected() as client:
        found = await DeadLetters(client.bus.redis, client.namespace).get(letter_id)
        if found is None:
            raise _missing(letter_id)
        return found


async def _replay(letter_id: str) -> None:
    async with connected() as client:
        if not await DeadLetters(client.bus.redis, client.namespace).replay(letter_id):
            raise _missing(letter_id)


async def _drop(letter_id: str) -> None:
    async with connected() as client:
        if not await DeadLetters(client.bus.redis, client.namespace).drop(letter_id):
            raise _missing(letter_id)
