"""``wait``: until a model of a pipeline answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

import typer

from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import Client, connected
from tidemill_console.history import line
from tidemill_console.output import run, say, show_json
from tidemill_contracts.artifacts import promotions_prefix
from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.events import (
    ModelDeployed,
    ModelPackaged,
    ModelPromoted,
    ModelRejected,
    ModelTrained,
    PackagingFailed,
    TrainingFailed,
    TrainingGranted,
)
from tidemill_contracts.promotion import DeployedModel, Promotion
from tidemill_contracts.registry import InvalidEvent, parse
from tidemill_contracts.streams import stream_key
from tidemill_shared.append_log import AppendLog
from tidemill_shared.errors import TidemillError

_STAGES = (TrainingGranted, ModelTrained, ModelPackaged, ModelPromoted, ModelDeployed)
_FAILURES = (TrainingFailed, PackagingFailed, ModelRejected)


def wait(
    pipeline: Annotated[str, typer.Argument(help="The pipeline.")],
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Wait until the champion of a pipeline answers, and show the way there."""
    deployed = run(_wait(pipeline, timeout))
    if as_json:
        show_json(deployed.model_dump(mode="json"))
    else:
        say(f"model {deployed.version} answers (promotion {deployed.sequence})")


async def _wait(pipeline: str, seconds: float) -> DeployedModel:
    async with connected() as client:
        if await client.pipelines.spec(pipeline) is None:
            raise TidemillError(f"no pipeline {pipeline!r} is declared; see `tidemill declare`")
        last = "nothing has happened yet: publish rows with `tidemill publish`"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for event in _stages(client, pipeline):
                    last = line(event)
                    if isinstance(event, ModelDeployed) and await _is_champion(client, pipeline, event.data):
                        return event.data
                    say(last)
        raise TidemillError(f"no model of {pipeline} answered within {seconds:g} s; the last of it: {last}")


async def _is_champion(client: Client, pipeline: str, deployed: DeployedModel) -> bool:
    champion = await AppendLog(client.store, promotions_prefix(pipeline), Promotion).last()
    return champion is not None and deployed.sequence >= champion[0]


async def _stages(client: Client, pipeline: str) -> AsyncIterator[Event[Any]]:
    """What happened to the pipeline's models, from the beginning of the streams on, each batch in order of time."""
    position: dict[Any, Any] = {stream_key(client.namespace, cls.type_name()): "0" for cls in (*_STAGES, *_FAILURES)}
    while True:
        reply: Any = await client.bus.redis.xread(dict(position), count=1000, block=500)
        found = []
        for name, entries in reply.items() if isinstance(reply, dict) else reply or ():
            for entry, fields in entries:
                position[name.decode()] = entry.decode()
                found.append((tuple(map(int, entry.split(b"-"))), fields.get(FIELD.encode(), b"")))
        for _, body in sorted(found):
            try:
                event = parse(body)
            except InvalidEvent:  # a consumer of that stream sets it aside
                continue
            if event.pipeline == pipeline:
                yield event
