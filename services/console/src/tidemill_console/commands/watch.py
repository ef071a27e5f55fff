"""``watch``: events as they happen."""

import asyncio
from typing import Annotated, Any

import typer

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import connected
from tidemill_console.history import line
from tidemill_console.output import results, run, say
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.registry import EVENTS, InvalidEvent, parse
from tidemill_contracts.streams import stream_key
from tidemill_shared.following import read_on


def watch(
    pipeline: Annotated[str | None, typer.Option(help="Only this pipeline, its predictions too.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only types that start with this.")] = None,
    past: Annotated[bool, typer.Option(help="Begin with everything that is still in the streams.")] = False,
    seconds: Annotated[float, typer.Option(help="Stop after so long; 0 goes on until interrupted.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Show events live, a line each."""
    say("watching; interrupt to stop")
    run(_watch(pipeline, kind, past, seconds, as_json))


async def _watch(pipeline: str | None, kind: str | None, past: bool, seconds: float, as_json: bool) -> None:
    async with connected() as client:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds if seconds else None
        position: dict[str, str] = {}
        for type_, cls in EVENTS.items():
            if (kind and not type_.startswith(kind)) or (cls.plane == "data" and not pipeline):
                continue
            stream = stream_key(client.namespace, type_, pipeline if cls.plane == "data" else None)
            newest: Any = None if past else await client.bus.nodes.of(stream).xrevrange(stream, count=1)
            position[stream] = newest[0][0].decode() if newest else "0"
        while deadline is None or loop.time() < deadline:
            found = await read_on(client.bus.nodes, position, count=500, block_seconds=0.5)
            for _, _, fields in sorted(found, key=lambda item: tuple(map(int, item[1].split("-")))):
                _show(fields.get(FIELD.encode(), b""), pipeline, as_json)


def _show(body: bytes, pipeline: str | None, as_json: bool) -> None:
    try:
        event = parse(body)
    except InvalidEvent as error:
        say(f"an entry that is no event: {error}")
        return
    if pipeline and event.pipeline != pipeline:
        return
    results.print(body.decode() if as_json else line(event), markup=False)
