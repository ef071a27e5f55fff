"""Large tables and their answers become rows that the lanes take like any others."""

import tempfile
from collections import defaultdict
from pathlib import Path

from tidemill_contracts.envelope import MAX_EVENT_BYTES, content_id
from tidemill_contracts.events import RowsAnswered, TableCompleted
from tidemill_contracts.prediction import CompletedPredictions, RefusedRows, RequestedPredictions
from tidemill_contracts.registry import InvalidEvent, parse_as
from tidemill_contracts.table import AnsweredRows
from tidemill_monitoring import table_rows
from tidemill_monitoring.table_rows import Piece
from tidemill_shared.bus import Bus
from tidemill_shared.child import Bounds, Child
from tidemill_shared.delivery import Completion, Delivery
from tidemill_shared.errors import Poison
from tidemill_shared.store import Store

_CHILD = Bounds(memory_bytes=2 * 1024**3, cpu_seconds=300)


class LargeTables:
    """Reads what was asked and answered, and publishes it for the lanes in events of a usual size.

    A crash repeats the events, with their ids; a row that is known already is counted once.
    """

    def __init__(self, bus: Bus, store: Store) -> None:
        self._bus = bus
        self._store = store
        self._child = Child(service="monitoring", bounds=_CHILD)

    async def stop(self) -> None:
        """A table at hand is read elsewhere, or after the restart."""
        await self._child.stop()

    async def on_batch(self, pipeline: str, batch: list[Delivery]) -> Completion:
        """Publish the rows of each table. Raises ObjectMissing and StoreUnavailable, ChildDied, redis errors."""
        completion = Completion()
        for delivery in batch:
            try:
                event = parse_as(TableCompleted, delivery.body)
                if event.pipeline != pipeline:
                    raise InvalidEvent("invalid", f"subject {event.subject!r} in the stream of {pipeline!r}")
                await self._spread(event)
            except (InvalidEvent, Poison) as error:
                completion.dead.append((delivery, error.code, str(error)))
            else:
                completion.outputs.append((delivery, ()))
        return completion

    async def _spread(self, event: TableCompleted) -> None:
        async def publish(piece: Piece) -> None:
            await self._bus.publish(*events_of(event, piece))

        with tempfile.TemporaryDirectory(prefix="tidemill-table-") as name:
            table = await self._store.get_file(event.data.table, Path(name) / "table")
            result = await self._store.get_file(event.data.result, Path(name) / "result")
            try:
                await self._child.run(table_rows.read, table, result, on_progress=publish)
            except ValueError as error:  # Arrow's errors are, too
                raise Poison("poison", f"table {event.data.table_id}: {str(error)[:500]}") from None


def events_of(event: TableCompleted, piece: Piece) -> list[RowsAnswered]:
    """The piece as one event, or as several where one would be too large."""
    found = RowsAnswered.caused_by(event, _payload(event, piece), subject=event.pipeline, time=event.time)
    found = found.model_copy(update={"id": content_id(event.id, "rows", str(piece.first), str(len(piece.ids)))})
    if len(found.to_json()) <= MAX_EVENT_BYTES or len(piece.ids) == 1:
        return [found]
    return [smaller for half in piece.halves() for smaller in events_of(event, half)]


def _payload(event: TableCompleted, piece: Piece) -> AnsweredRows:
    good = [i for i, error in enumerate(piece.errors) if error is None]
    refused: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for id_, error, field in zip(piece.ids, piece.errors, piece.fields, strict=True):
        if error is not None:
            refused[error, field].append(id_)
    odds = piece.probabilities
    answered = CompletedPredictions(
        prediction_ids=tuple(piece.ids[i] for i in good),
        predictions=tuple(piece.predictions[i] for i in good),
        probabilities=tuple(tuple(odds[i] or ()) for i in good) if odds is not None else (),
        classes=event.data.classes,
        refused=tuple(
            RefusedRows(prediction_ids=tuple(ids), error=error, field=field, message=error)
            for (error, field), ids in refused.items()
        ),
        model_version=event.data.model_version,
        dataset_version=event.data.dataset_version,
    )
    columns = {name: tuple(cells) for name, cells in piece.columns.items()}
    return AnsweredRows(requested=RequestedPredictions(ids=tuple(piece.ids), columns=columns), answered=answered)
