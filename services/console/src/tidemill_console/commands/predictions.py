"""``predict`` and ``labels``: requests and truths by the stream."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq
import typer
from rich.progress import Progress

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import Client, connected
from tidemill_console.output import FAILED, USAGE, fail, notes, run, say, show_json
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import LabelObserved, PredictionCompleted, PredictionFailed, PredictionRequested
from tidemill_contracts.prediction import ObservedLabel, RequestedPrediction
from tidemill_contracts.registry import parse
from tidemill_contracts.streams import stream_key
from tidemill_shared.errors import Overloaded, TidemillError

_BATCH = 500
_PATIENCE_SECONDS = 60.0
"""How long requests and labels wait for room in Redis."""


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Rows of a CSV, JSON Lines or Parquet file, with values as JSON would carry them."""
    try:
        if file.name.endswith((".csv", ".csv.gz")):
            table = pacsv.read_csv(file, convert_options=pacsv.ConvertOptions(strings_can_be_null=True))
        elif file.name.endswith(".parquet"):
            table = pq.read_table(file)
        elif file.name.endswith((".jsonl", ".ndjson", ".jsonl.gz")):
            table = pajson.read_json(file)
        else:
            fail(f"{file.name}: a .csv, .jsonl or .parquet file is expected", USAGE)
    except (OSError, pa.ArrowInvalid) as error:
        fail(f"cannot read {file}: {error}", USAGE)
    return [{k: _scalar(v) for k, v in row.items()} for row in table.to_pylist()]


def _scalar(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def predict(
    pipeline: Annotated[str, typer.Argument(help="The pipeline to ask.")],
    file: Annotated[Path, typer.Argument(help="Rows: CSV, JSON Lines or Parquet.")],
    output: Annotated[Path | None, typer.Option("-o", help="Where to write: .csv, .jsonl or .parquet.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds without any new answer before giving up.")] = 30.0,
    allow_failed: Annotated[bool, typer.Option(help="Exit with 0 even when rows failed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Predict the rows of a file by the stream, in order, one answer a row."""
    rows = read_rows(file)
    answers = run(_predict(pipeline, rows, timeout))
    records = [_record(answer) for answer in answers]
    missing = sum(answer is None for answer in answers)
    failed = sum(isinstance(answer, PredictionFailed) for answer in answers)
    if output:
        _write(records, output)
    else:
        for record in records if not as_json else ():
            show_json(record)
    if as_json:
        show_json({"rows": len(rows), "completed": len(rows) - failed - missing, "failed": failed, "missing": missing})
    say(f"{len(rows) - failed - missing} predicted, {failed} failed, {missing} without an answer")
    for record in [r for r in records if r["error"]][:5]:
        say(f"  row {records.index(record) + 1}: {record['error']}: {record['message']}")
    if missing or (failed and not allow_failed):
        raise typer.Exit(FAILED)


def _record(answer: PredictionCompleted | PredictionFailed | None) -> dict[str, Any]:
    record: dict[str, Any] = dict.fromkeys(
        ("prediction_id", "prediction", "probability", "model_version", "error", "message")
    )
    if isinstance(answer, PredictionCompleted):
        probability = max(answer.data.probabilities, default=None)
        record |= {"prediction": answer.data.prediction, "probability": probability}
        record |= {"prediction_id": answer.data.prediction_id, "model_version": answer.data.model_version}
    elif isinstance(answer, PredictionFailed):
        record |= {"prediction_id": answer.data.prediction_id, "error": answer.data.error}
        record |= {"message": answer.data.message}
    else:
        record |= {"error": "no_answer", "message": "no answer came in time"}
    return record


def _write(records: list[dict[str, Any]], output: Path) -> None:
    if output.suffix == ".jsonl":
        output.write_text("".join(json.dumps(r) + "\n" for r in records))
    elif output.suffix in (".csv", ".parquet"):
        table = pa.Table.from_pylist(records)
        pacsv.write_csv(table, output) if output.suffix == ".csv" else pq.write_table(table, output)
    else:
        fail(f"{output}: a .csv, .jsonl or .parquet file is expected", USAGE)
    say(f"written to {output}")


async def _predict(
    pipeline: str, rows: list[dict[str, Any]], patience: float
) -> list[PredictionCompleted | PredictionFailed | None]:
    async with connected() as client:
        if await client.pipelines.spec(pipeline) is None:
            raise TidemillError(f"no pipeline {pipeline!r} is declared")
        positions = {str(uuid4()): i for i in range(len(rows))}
        ids = list(positions)
        answers: list[PredictionCompleted | PredictionFailed | None] = [None] * len(rows)
        ends = await _ends(client, pipeline)
        with Progress(console=notes, transient=True) as progress:
            task = progress.add_task(f"predicting {len(rows)} rows", total=len(rows))
            sending = asyncio.create_task(_send(client, pipeline, rows, ids))
            last = asyncio.get_running_loop().time()
            async for answer in _answers(client, ends):
                now = asyncio.get_running_loop().time()
                position = positions.get(answer.data.prediction_id) if answer else None
                if position is not None and answers[position] is None:
                    answers[position] = answer
                    progress.advance(task)
                    last = now
                if all(answers) or now - last > patience:
                    break
            await sending
        return answers


async def patiently_offer(client: Client, *events: PredictionRequested | LabelObserved) -> None:
    """Publish, waiting for room. Raises Overloaded when there was none for long."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
    while True:
        try:
            return await client.bus.offer(*events)
        except Overloaded as error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            say(f"waiting: {error}")
            await asyncio.sleep(error.retry_after_seconds)


async def _send(client: Client, pipeline: str, rows: list[dict[str, Any]], ids: list[str]) -> None:
    def events() -> Iterator[PredictionRequested]:
        for row, prediction_id in zip(rows, ids, strict=True):
            yield PredictionRequested.root(
                RequestedPrediction(features=row), subject=pipeline, source="urn:tidemill:console", id=prediction_id
            )

    batch: list[PredictionRequested] = []
    for event in events():
        batch.append(event)
        if len(batch) == _BATCH:
            await patiently_offer(client, *batch)
            batch = []
    if batch:
        await patiently_offer(client, *batch)


async def _ends(client: Client, pipeline: str) -> dict[Any, Any]:
    ends: dict[Any, Any] = {}
    for kind in (PredictionCompleted, PredictionFailed):
        stream = stream_key(client.namespace, kind.type_name(), pipeline)
        newest: Any = await client.bus.nodes.of(stream).xrevrange(stream, count=1)
        ends[stream] = newest[0][0].decode() if newest else "0"
    return ends


async def _answers(
    client: Client, ends: dict[Any, Any]
) -> AsyncIterator[PredictionCompleted | PredictionFailed | None]:
    """Answers as they come; None now and then while there are none."""
    while True:
        yield None
        reply: Any = await client.bus.nodes.of(next(iter(ends))).xread(dict(ends), count=1000, block=1000)
        for name, entries in reply.items() if isinstance(reply, dict) else reply or ():
            for entry, fields in entries:
                ends[name.decode()] = entry.decode()
                answer = parse(fields[FIELD.encode()])
                if isinstance(answer, (PredictionCompleted, PredictionFailed)):
                    yield answer


def labels(
    pipeline: Annotated[str, typer.Argument(help="The pipeline that predicted.")],
    file: Annotated[Path, typer.Argument(help="Columns prediction_id and label: CSV, JSON Lines or Parquet.")],
    as_json: AsJson = False,
) -> None:
    """Publish the truth about earlier predictions."""
    rows = read_rows(file)
    if rows and not {"prediction_id", "label"} <= rows[0].keys():
        fail(f"{file}: columns prediction_id and label are needed, found {', '.join(rows[0])}", USAGE)
    run(_label(pipeline, rows))
    show_json({"labels": len(rows)}) if as_json else say(f"{len(rows)} labels published")


async def _label(pipeline: str, rows: list[dict[str, Any]]) -> None:
    async with connected() as client:
        events = [
            LabelObserved.root(
                ObservedLabel(prediction_id=str(row["prediction_id"]), label=row["label"]),
                subject=pipeline,
                source="urn:tidemill:console",
            )
            for row in rows
        ]
        for start in range(0, len(events), _BATCH):
            await patiently_offer(client, *events[start : start + _BATCH])
