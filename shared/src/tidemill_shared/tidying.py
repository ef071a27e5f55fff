"""What keeps streams short and groups clean, in every service, for the streams it reads or writes."""

from collections.abc import Sequence

from redis.asyncio import Redis

from tidemill_shared.janitor import sweep
from tidemill_shared.nodes import Nodes
from tidemill_shared.room import memory_share
from tidemill_shared.settings import DeliverySettings
from tidemill_shared.trimming import trim


async def tidy(
    nodes: Nodes,
    group: str,
    settings: DeliverySettings,
    *,
    control: Sequence[str],
    lanes: Sequence[str],
    read: Sequence[str],
) -> None:
    """One round over streams of the control plane, of the data plane, and those ``group`` reads. Raises redis errors.

    Replicas may do it at once without harm.
    """
    await trim(nodes.control, control, settings.retention_seconds)
    for redis, streams in nodes.by_server(lanes):
        await trim(redis, streams, await _retention(redis, settings))
    for redis, streams in nodes.by_server(read):
        await sweep(redis, streams, group, settings.forget_seconds)


async def _retention(redis: Redis, settings: DeliverySettings) -> float:
    """Of requests, answers and labels: less while Redis is getting full."""
    usual, pressed = settings.prediction_retention_seconds, settings.pressed_retention_seconds
    if usual > pressed and await memory_share(redis) >= settings.pressed_memory_share:
        return pressed
    return usual
