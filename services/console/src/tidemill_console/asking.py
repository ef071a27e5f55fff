"""What an operator's requests have in common: they are about a pipeline there is, and sealed where there is a key."""

from tidemill_console.connection import Client
from tidemill_shared.errors import TidemillError
from tidemill_shared.seal import OperatorSeal, RequestT


async def require(client: Client, pipeline: str) -> None:
    """Raises TidemillError with the names of the pipelines there are."""
    if await client.pipelines.spec(pipeline) is None:
        known = ", ".join(client.pipelines.names()) or "none"
        raise TidemillError(f"no pipeline {pipeline!r} is declared (declared: {known})")


async def ask(client: Client, event: RequestT) -> RequestT:
    """Seal and publish a request. Raises TidemillError for an unknown pipeline, and redis errors."""
    await require(client, event.pipeline)
    if client.keys.operator_private_file:
        event = OperatorSeal.of(client.keys).sealed(event)
    await client.bus.offer(event)
    return event
