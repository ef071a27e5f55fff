"""The inbox: new data is accepted once its event lies in the object store, whatever becomes of Redis."""

from datetime import UTC, datetime

from tidemill_contracts.artifacts import arrival_key, inbox_key
from tidemill_contracts.events import DataArrived
from tidemill_contracts.registry import InvalidEvent, parse_as
from tidemill_shared.errors import Poison
from tidemill_shared.store import Store


async def accept(store: Store, event: DataArrived) -> DataArrived:
    """Write the event's inbox entry, unless it is there; returns the event that lies there.

    The id is the idempotency key: the same rows under the same id change nothing, and Poison (``id_reused``) is raised
    for other rows, or another pipeline, under an id that is taken (``inbox``: what lies there is no event). Raises
    StoreUnavailable.
    """
    body = await store.read(inbox_key(event.id))
    if body is None:
        await store.put(arrival_key(datetime.now(UTC).date(), event.id), b"{}")
        await store.put(inbox_key(event.id), event.to_json())
        return event
    try:
        first = parse_as(DataArrived, body)
    except InvalidEvent as error:
        raise Poison("inbox", f"{inbox_key(event.id)} is no event ({error}): remove it, then publish again") from None
    if (first.pipeline, first.data.sha256, first.data.origin) != (event.pipeline, event.data.sha256, event.data.origin):
        raise Poison(
            "id_reused",
            f"event id {event.id} was accepted with other rows, for {first.pipeline} at {first.time.isoformat()}: "
            "give new rows a new id",
        )
    return first
