"""``dead-letters``: list, show, replay, drop."""

from typing import Annotated

import typer
from rich.table import Table

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import connected
from tidemill_console.output import USAGE, fail, results, run, say, show_json
from tidemill_console.stack import SERVICES
from tidemill_shared.dead_letters import Buried, DeadLetters, in_order
from tidemill_shared.errors import TidemillError
from tidemill_shared.halts import halted
from tidemill_shared.halts import resume as resume_stream

app = typer.Typer(no_args_is_help=True, help="Events nobody could handle.")
LetterId = Annotated[str, typer.Argument(help="From `tidemill dead-letters list`.")]
Group = Annotated[str | None, typer.Option("--service", help="Only those this service gave up.")]
Reason = Annotated[str | None, typer.Option(help="Only those with this reason.")]


@app.command("list")
def list_letters(
    count: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, oldest first.")] = 100,
    service: Group = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """What lies there, oldest first."""
    found = run(_list(count, service, reason))
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
def replay(
    letter_id: Annotated[str | None, typer.Argument(help="From `tidemill dead-letters list`.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them, causes before effects.")] = False,
    service: Group = None,
    reason: Reason = None,
) -> None:
    """Put the original event back into its stream, or many, each after its cause."""
    if (letter_id is None) != everything:
        fail("name one letter, or ask for --all", USAGE)
    if letter_id is not None:
        run(_replay(letter_id))
        say(f"replayed {letter_id}")
    else:
        say(f"replayed {run(_replay_all(service, reason))} events")


@app.command()
def drop(letter_id: LetterId) -> None:
    """Remove a letter for good."""
    run(_drop(letter_id))
    say(f"dropped {letter_id}")


@app.command()
def resume(
    stream: Annotated[str | None, typer.Argument(help="From `tidemill status`; without it, every halted one.")] = None,
    service: Group = None,
) -> None:
    """Let services read streams again that they had stopped reading, since all that came from them was poison."""
    resumed = run(_resume(stream, service))
    for row in resumed:
        say(f"{row['service']} reads {row['stream']} again")
    if not resumed:
        say("nothing was halted")


async def _resume(stream: str | None, service: str | None) -> list[dict[str, str]]:
    async with connected() as client:
        redis, namespace = client.bus.redis, client.namespace
        found = [
            row
            for row in await halted(redis, namespace, SERVICES)
            if service in (None, row["service"]) and stream in (None, row["stream"])
        ]
        return [row for row in found if await resume_stream(redis, namespace, row["service"], row["stream"])]


def _missing(letter_id: str) -> TidemillError:
    return TidemillError(f"no dead letter {letter_id}: see `tidemill dead-letters list`")


async def _list(count: int, service: str | None, reason: str | None) -> list[Buried]:
    found: list[Buried] = []
    async with connected() as client:
        async for buried in DeadLetters(client.bus.nodes, client.namespace).every(group=service, reason=reason):
            found.append(buried)
            if len(found) == count:
                break
    return found


async def _replay_all(service: str | None, reason: str | None) -> int:
    async with connected() as client:
        letters = DeadLetters(client.bus.nodes, client.namespace)
        found = [buried async for buried in letters.every(group=service, reason=reason)]
        return sum([await letters.replay(buried.id) for buried in in_order(found)])


async def _get(letter_id: str) -> Buried:
    async with connected() as client:
        found = await DeadLetters(client.bus.nodes, client.namespace).get(letter_id)
        if found is None:
            raise _missing(letter_id)
        return found


async def _replay(letter_id: str) -> None:
    async with connected() as client:
        if not await DeadLetters(client.bus.nodes, client.namespace).replay(letter_id):
            raise _missing(letter_id)


async def _drop(letter_id: str) -> None:
    async with connected() as client:
        if not await DeadLetters(client.bus.nodes, client.namespace).drop(letter_id):
            raise _missing(letter_id)
