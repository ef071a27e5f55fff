"""``score``: a file of any size, scored by the service in parts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from uuid import uuid4

import pyarrow.parquet as pq
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import Client, connected
from tidemill_console.output import FAILED, USAGE, fail, notes, run, say, show_json
from tidemill_contracts.artifacts import batch_input_key
from tidemill_contracts.batch import BatchManifest, CompletedBatch, RequestedBatch
from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.events import BatchCompleted, BatchFailed, BatchProgressed, BatchRequested, EventDeadLettered
from tidemill_contracts.registry import InvalidEvent, parse
from tidemill_contracts.streams import stream_key
from tidemill_shared.errors import TidemillError
from tidemill_shared.store import file_reference

_SUFFIXES = (".parquet", ".csv.gz", ".csv")
_TOLD = (BatchProgressed, BatchCompleted, BatchFailed, EventDeadLettered)
BatchEvent = BatchProgressed | BatchCompleted | BatchFailed | EventDeadLettered


def score(
    pipeline: Annotated[str, typer.Argument(help="The pipeline whose champion answers.")],
    file: Annotated[Path, typer.Argument(help="Rows: Parquet, or CSV (also gzipped).")],
    output: Annotated[Path | None, typer.Option("-o", help="Where to write the results (Parquet).")] = None,
    row_id: Annotated[str | None, typer.Option(help="Column that names a row in the results.")] = None,
    batch: Annotated[str | None, typer.Option("--id", help="Batch id; the same id finds it again.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score a file of any size. It goes on when this command is stopped; the same --id finds it again."""
    suffix = next((s for s in _SUFFIXES if file.name.endswith(s)), None)
    if suffix is None or not file.is_file():
        fail(f"{file}: a file with one of {', '.join(_SUFFIXES)} is expected", USAGE)
    completed, manifest = run(_score(pipeline, file, suffix, output, row_id, batch or str(uuid4())))
    if as_json:
        show_json(completed.model_dump(mode="json") | {"errors": manifest.errors})
    say(f"{completed.rows} rows scored by model {completed.model_version}, {completed.failed} without a prediction")
    for error, rows in sorted(manifest.errors.items()):
        say(f"  {error}: {rows}")
    say(f"written to {output}" if output else f"the results' manifest is {completed.manifest.key}")
    if completed.failed:
        raise typer.Exit(FAILED)


async def _score(
    pipeline: str, file: Path, suffix: str, output: Path | None, row_id: str | None, batch: str
) -> tuple[CompletedBatch, BatchManifest]:
    async with connected() as client:
        if await client.pipelines.spec(pipeline) is None:
            raise TidemillError(f"no pipeline {pipeline!r} is declared")
        known = [event async for event in _told(client, batch, follow=False)]
        if not known:
            await _request(client, pipeline, file, suffix, row_id, batch)
        say(f"batch {batch}")
        completed = await _follow(client, batch)
        manifest = await client.store.document(completed.manifest, BatchManifest)
        if output:
            await _write(client, manifest, output)
        return completed, manifest


async def _request(client: Client, pipeline: str, file: Path, suffix: str, row_id: str | None, batch: str) -> None:
    with notes.status(f"reading {file.name}"):
        ref = await asyncio.to_thread(file_reference, "x", file)
    ref = ref.model_copy(update={"key": batch_input_key(pipeline, ref.sha256, suffix)})
    if await client.store.stat(ref.key) != ref.size:
        with notes.status(f"uploading {ref.size / 1e6:.1f} MB"):
            await client.store.put_file(ref.key, file)
    request = RequestedBatch(input=ref, row_id=row_id)
    await client.bus.publish(BatchRequested.root(request, subject=pipeline, source="urn:tidemill:console", id=batch))


async def _follow(client: Client, batch: str) -> CompletedBatch:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True) as progress:
        task = progress.add_task("rows", total=None)
        async for event in _told(client, batch, follow=True):
            if isinstance(event, BatchProgressed):
                progress.update(task, completed=event.data.rows, total=event.data.total)
            elif isinstance(event, BatchCompleted):
                return event.data
            elif isinstance(event, BatchFailed):
                raise TidemillError("; ".join(f"{r.code}: {r.message}" for r in event.data.reasons))
            else:
                raise TidemillError(f"set aside: {event.data.message}; `tidemill dead-letters replay` goes on with it")
    raise AssertionError("unreachable")


async def _told(client: Client, batch: str, *, follow: bool) -> AsyncIterator[BatchEvent]:
    """What has been said of a batch from the beginning of the streams on, and with ``follow`` what will be."""
    position: dict[Any, Any] = {stream_key(client.namespace, cls.type_name()): "0" for cls in _TOLD}
    while True:
        reply: Any = await client.bus.redis.xread(dict(position), count=1000, block=500 if follow else None)
        for name, entries in reply.items() if isinstance(reply, dict) else reply or ():
            for entry, fields in entries:
                position[name.decode()] = entry.decode()
                event = _parsed(fields.get(FIELD.encode(), b""))
                if isinstance(event, _TOLD) and batch in (event.causationid, getattr(event.data, "event_id", None)):
                    yield event
        if not (follow or reply):
            return


def _parsed(body: bytes) -> Event[Any] | None:
    try:
        return parse(body)
    except InvalidEvent:  # a consumer of that stream sets it aside
        return None


async def _write(client: Client, manifest: BatchManifest, output: Path) -> None:
    """All parts, in order, as one file; one part at a time in memory and on disk."""
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f".{output.name}.part")
    writer: pq.ParquetWriter | None = None
    with TemporaryDirectory() as folder:
        for part in manifest.parts:
            path = await client.store.get_file(part.file, Path(folder) / "part.parquet")
            source = pq.ParquetFile(path)
            writer = writer or pq.ParquetWriter(unfinished, source.schema_arrow, compression="zstd")
            for group in range(source.num_row_groups):
                writer.write_table(source.read_row_group(group))
    if writer is None:
        raise TidemillError("the file has no rows, so there are no results to write")
    writer.close()
    unfinished.replace(output)
