"""``train``, ``approve``, ``anchor``, ``rollback``: what a person may ask of the system."""

import asyncio
import getpass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from tidemill_console.asking import ask, require
from tidemill_console.commands.stack import AsJson
from tidemill_console.connection import connected
from tidemill_console.output import run, say, show_json
from tidemill_contracts.artifacts import anchors_prefix, promotions_prefix
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import (
    AnchorRequested,
    ModelApproved,
    RetrainingResumed,
    RollbackRequested,
    TrainingRequested,
)
from tidemill_contracts.model import RequestedTraining, ResumedRetraining
from tidemill_contracts.promotion import Anchor, ApprovedModel, Promotion, RequestedAnchor, RequestedRollback
from tidemill_shared.append_log import AppendLog
from tidemill_shared.errors import TidemillError
from tidemill_shared.seal import RequestT

_SOURCE = "urn:tidemill:console"
Pipeline = Annotated[str, typer.Argument(help="The pipeline.")]


def train(
    pipeline: Pipeline,
    reason: Annotated[str, typer.Option(help="Why; kept with the model.")] = "asked for by a person",
    force: Annotated[bool, typer.Option(help="Do not wait for the cool-down.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask for a training now."""
    event = TrainingRequested.root(RequestedTraining(reason=reason, force=force), subject=pipeline, source=_SOURCE)
    run(_ask(pipeline, event))
    show_json({"event": event.id}) if as_json else say(f"asked; follow it with: tidemill watch --pipeline {pipeline}")


def resume(
    pipeline: Pipeline,
    reason: Annotated[str, typer.Option(help="Kept with the event.")] = "",
    as_json: AsJson = False,
) -> None:
    """Let a pipeline train by itself again, after refused candidates have handed the decision to a person."""
    data = ResumedRetraining(by=getpass.getuser(), reason=reason)
    event = RetrainingResumed.root(data, subject=pipeline, source=_SOURCE)
    run(_ask(pipeline, event))
    show_json({"event": event.id}) if as_json else say(f"{pipeline} trains by itself again")


def approve(
    pipeline: Pipeline,
    version: Annotated[str, typer.Argument(help="A validated model's version.")],
    note: Annotated[str, typer.Option(help="Kept in the registry.")] = "",
    as_json: AsJson = False,
) -> None:
    """Let a validated model become champion, where the pipeline asks for a person."""
    data = ApprovedModel(version=version, by=getpass.getuser(), note=note)
    event = run(_sealed(ModelApproved.root(data, subject=f"{pipeline}/{version}", source=_SOURCE)))
    show_json({"event": event.id}) if as_json else say(f"approved {version}")


def anchor(
    pipeline: Pipeline,
    since: Annotated[datetime | None, typer.Option(help="Golden rows from this event time (UTC) on only.")] = None,
    reason: Annotated[str, typer.Option(help="Kept with the anchor.")] = "asked for by a person",
    as_json: AsJson = False,
) -> None:
    """Measure later models by the present champion, on its test rows of today."""
    moment = since.replace(tzinfo=UTC) if since and since.tzinfo is None else since
    event = run(_anchor(pipeline, moment, reason))
    if as_json:
        show_json({"event": event.id, "version": event.data.version})
    else:
        say(f"asked to anchor {event.data.version}; follow it with: tidemill watch --pipeline {pipeline}")


def rollback(
    pipeline: Pipeline,
    to: Annotated[str | None, typer.Option(help="An earlier champion; else the one before the present.")] = None,
    reason: Annotated[str, typer.Option(help="Kept in the registry.")] = "asked for by a person",
    wait: Annotated[float, typer.Option(help="Seconds to wait for it; 0 does not wait.")] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Return to an earlier champion."""
    promotion = run(_rollback(pipeline, to, reason, wait))
    if as_json:
        show_json(promotion.model_dump(mode="json") if promotion else None)
    else:
        say(f"champion of {pipeline} is now {promotion.version}" if promotion else "asked")


async def _sealed(event: RequestT) -> RequestT:
    async with connected() as client:
        return await ask(client, event)


async def _ask(pipeline: str, *events: Event[Any]) -> None:
    async with connected() as client:
        await require(client, pipeline)
        await client.bus.offer(*events)


async def _anchor(pipeline: str, since: datetime | None, reason: str) -> AnchorRequested:
    """Ask for the champion of now, after the anchors of now: late, or sent again, the request does nothing."""
    async with connected() as client:
        await require(client, pipeline)
        champion = await AppendLog(client.store, promotions_prefix(pipeline), Promotion).last()
        if champion is None:
            raise TidemillError(f"{pipeline} has no champion yet that could be anchored")
        anchors = await AppendLog(client.store, anchors_prefix(pipeline), Anchor).height()
        data = RequestedAnchor(
            version=champion[1].version, anchor=anchors, since=since, by=getpass.getuser(), reason=reason
        )
        return await ask(client, AnchorRequested.root(data, subject=pipeline, source=_SOURCE))


async def _rollback(pipeline: str, to: str | None, reason: str, wait: float) -> Promotion | None:
    async with connected() as client:
        await require(client, pipeline)
        log = AppendLog(client.store, promotions_prefix(pipeline), Promotion)
        entries = await log.entries()
        champion = entries[-1][1].version if entries else None
        earlier = [p.version for _, p in entries if p.version != champion]
        if to and to not in earlier:
            raise TidemillError(f"{to} was never champion before; earlier champions: {', '.join(earlier) or 'none'}")
        if not earlier:
            raise TidemillError(f"{pipeline} has no earlier champion to return to")
        data = RequestedRollback(version=to, by=getpass.getuser(), reason=reason)
        await ask(client, RollbackRequested.root(data, subject=pipeline, source=_SOURCE))
        deadline = asyncio.get_running_loop().time() + wait
        while asyncio.get_running_loop().time() < deadline:
            last = await log.last()
            if last and last[0] > entries[-1][0]:
                return last[1]
            await asyncio.sleep(0.1)
        if wait:
            raise TidemillError(f"no rollback within {wait:.0f} s: is validation ready? (tidemill status)")
        return None
