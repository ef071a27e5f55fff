"""``report``: a pipeline's history as a page."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import Client, connected
from tidemill_console.output import run, say, show_json
from tidemill_console.report.page import page
from tidemill_console.report.timeline import READ, Timeline
from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.registry import InvalidEvent, parse
from tidemill_contracts.streams import stream_key
from tidemill_shared.errors import TidemillError

_COUNT = 1_000


def report(
    pipeline: Annotated[str, typer.Argument(help="The pipeline.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; else <pipeline>-report.html here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a page: score over time, verdicts, drifts, recoveries, promotions, refusals."""
    timeline = run(_report(pipeline))
    file = out or Path(f"{pipeline}-report.html")
    file.write_text(page(timeline, datetime.now(UTC)), encoding="utf-8")
    if as_json:
        show_json({"file": str(file), "windows": len(timeline.points), "happenings": len(timeline.happenings)})
    else:
        say(f"{file}: {len(timeline.points)} windows measured, {len(timeline.happenings)} things happened")


async def _report(pipeline: str) -> Timeline:
    async with connected() as client:
        spec = await client.pipelines.spec(pipeline)
        if spec is None:
            raise TidemillError(f"{pipeline}: no such pipeline is declared")
        events = [found for kind in READ for found in await _read(client, kind, pipeline)]
        ordered = [event for _, event in sorted(events, key=lambda item: item[0])]
        return Timeline.of(pipeline, spec.primary, ordered)


async def _read(client: Client, kind: type[Event[Any]], pipeline: str) -> list[tuple[tuple[int, ...], Event[Any]]]:
    """The pipeline's events of one type that are still in the stream, each with its entry."""
    stream, after = stream_key(client.namespace, kind.type_name()), "-"
    found: list[tuple[tuple[int, ...], Event[Any]]] = []
    while True:
        entries: Any = await client.bus.redis.xrange(stream, min=after, count=_COUNT)
        for entry, fields in entries:
            try:
                event = parse(fields.get(FIELD.encode(), b""))
            except InvalidEvent:
                continue  # whatever it is, it is no part of this history
            if event.pipeline == pipeline:
                found.append((tuple(map(int, entry.split(b"-"))), event))
        if len(entries) < _COUNT:
            return found
        after = f"({entries[-1][0].decode()}"
