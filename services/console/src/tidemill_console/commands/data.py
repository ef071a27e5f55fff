"""``publish``: hand a file of rows over."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import Client, connected
from tidemill_console.output import FAILED, USAGE, fail, notes, run, say, show_json
from tidemill_contracts.artifacts import outcome_key, raw_key
from tidemill_contracts.dataset import ArrivedData, Outcome
from tidemill_contracts.events import DataArrived
from tidemill_shared.errors import Overloaded, TidemillError
from tidemill_shared.inbox import accept
from tidemill_shared.store import file_reference

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")


def publish(
    pipeline: Annotated[str, typer.Argument(help="The declared pipeline the rows belong to.")],
    file: Annotated[Path, typer.Argument(help="CSV, JSON Lines (each also gzipped) or Parquet.")],
    event_id: Annotated[str | None, typer.Option("--id", help="Event id; the same id twice changes nothing.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the outcome; 0 does not wait.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Publish a file of new rows: object, inbox, event."""
    if not file.is_file():
        fail(f"{file} is not a file", USAGE)
    suffix = next((s for s in SUFFIXES if file.name.endswith(s)), None)
    if suffix is None:
        fail(f"{file.name}: one of {', '.join(SUFFIXES)} is expected", USAGE)
    event, outcome = run(_publish(pipeline, file, suffix, event_id or str(uuid4()), wait))
    if as_json:
        show_json({"event": event.id, "outcome": outcome.model_dump(mode="json") if outcome else None})
    else:
        say(f"accepted as event {event.id}")
        _tell(outcome)
    if wait and (outcome is None or outcome.rejected):
        raise typer.Exit(FAILED)


def _tell(outcome: Outcome | None) -> None:
    if outcome and outcome.prepared:
        made = outcome.prepared
        rows = ", ".join(f"{split} {n}" for split, n in made.rows.items())
        say(f"dataset {made.version}: {made.new_rows} new rows, {made.quarantined} in quarantine ({rows})")
    elif outcome and outcome.rejected:
        for reason in outcome.rejected.reasons:
            notes.print(f"[bold red]rejected[/] ({reason.code}): {reason.message}", soft_wrap=True)


async def _publish(
    pipeline: str, file: Path, suffix: str, event_id: str, wait: float
) -> tuple[DataArrived, Outcome | None]:
    async with connected() as client:
        if await client.pipelines.spec(pipeline) is None:
            known = ", ".join(client.pipelines.names()) or "none"
            raise TidemillError(f"no pipeline {pipeline!r} is declared (declared: {known}); see `tidemill declare`")
        event = await publish_file(client, pipeline, file, suffix, event_id)
        return event, await wait_for_outcome(client, event_id, wait) if wait else None


async def publish_file(
    client: Client, pipeline: str, file: Path, suffix: str, event_id: str, time: datetime | None = None
) -> DataArrived:
    """Upload, write the inbox entry, then publish: from the inbox entry on, the rows are accepted.

    Where Redis has no room the sweeper publishes them later.
    """
    with notes.status(f"reading {file.name}"):
        ref = await asyncio.to_thread(file_reference, "x", file)
    key = raw_key(pipeline, ref.sha256, suffix)
    if await client.store.stat(key) != ref.size:
        with notes.status(f"uploading {ref.size / 1e6:.1f} MB"):
            await client.store.put_file(key, file)
    data = ArrivedData(uri=f"s3://{client.store.bucket}/{key}", sha256=ref.sha256, size=ref.size, note=file.name)
    event = DataArrived.root(
        data, subject=pipeline, source="urn:tidemill:console", id=event_id, time=time or datetime.now(UTC)
    )
    event = await accept(client.store, event)
    try:
        await client.bus.offer(event)
    except Overloaded as error:
        say(f"accepted, and to be published as soon as there is room: {error}")
    return event


async def wait_for_outcome(client: Client, event_id: str, seconds: float) -> Outcome | None:
    """What became of an accepted event, or None when nothing did in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    with notes.status("waiting for the outcome"):
        while asyncio.get_running_loop().time() < deadline:
            outcome = await client.store.read_document(outcome_key(event_id), Outcome)
            if outcome:
                return outcome
            await asyncio.sleep(0.1)
    return None
