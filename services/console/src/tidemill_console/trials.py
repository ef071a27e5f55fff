"""What is tried beside the champions: the log of entries, and the counts that the servers tell of."""

from dataclasses import dataclass
from typing import Any

from tidemill_console.connection import Client
from tidemill_contracts.artifacts import promotions_prefix, trials_prefix
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import RolloutObserved
from tidemill_contracts.promotion import Promotion
from tidemill_contracts.registry import InvalidEvent, parse_as
from tidemill_contracts.rollout import ObservedRollout, Trial
from tidemill_contracts.streams import stream_key
from tidemill_shared.append_log import AppendLog

_LOOKED_AT = 1_000
"""Newest observations: each server tells of a stage at least every ten seconds."""


@dataclass(frozen=True)
class Counted:
    """Rows and failures of both models, over all servers."""

    rows: int
    failed: int
    champion_rows: int
    champion_failed: int


@dataclass(frozen=True)
class Standing:
    """A pipeline's rollouts."""

    champion: Promotion | None
    log: list[Trial]
    """Oldest first."""
    counted: Counted | None
    """Of the trial's stage, or else of the champion that is watched."""

    @property
    def trial(self) -> Trial | None:
        """What is tried now."""
        last = self.log[-1] if self.log else None
        against = self.champion.version if self.champion else None
        return last if last and not last.over and last.against == against else None


def log_of(client: Client, pipeline: str) -> AppendLog[Trial]:
    """The pipeline's log of rollouts."""
    return AppendLog(client.store, trials_prefix(pipeline), Trial)


async def standing(client: Client, pipeline: str) -> Standing:
    """How a pipeline's rollouts stand. Raises StoreUnavailable, redis errors."""
    last = await AppendLog(client.store, promotions_prefix(pipeline), Promotion).last()
    entries = [trial for _, trial in await log_of(client, pipeline).entries()]
    found = Standing(last[1] if last else None, entries, None)
    trial, promotion = found.trial, last[0] if last else None
    wanted = (trial.sequence, None) if trial else (0, promotion)
    return Standing(found.champion, entries, await _counted(client, pipeline, wanted) if promotion else None)


async def _counted(client: Client, pipeline: str, about: tuple[int, int | None]) -> Counted | None:
    """The newest counts of each server added up; None where nobody told of any."""
    stream = stream_key(client.namespace, RolloutObserved.type_name())
    newest: Any = await client.bus.nodes.of(stream).xrevrange(stream, count=_LOOKED_AT)
    runs: dict[str, ObservedRollout] = {}
    for _, fields in newest:
        try:
            event = parse_as(RolloutObserved, fields.get(FIELD.encode(), b""))
        except InvalidEvent:
            continue
        if event.pipeline == pipeline and (event.data.trial, event.data.promotion) == about:
            runs.setdefault(event.data.run, event.data)
    if not runs:
        return None
    return Counted(
        rows=sum(seen.challenger.rows for seen in runs.values()),
        failed=sum(seen.challenger.failed for seen in runs.values()),
        champion_rows=sum(seen.champion.rows for seen in runs.values()),
        champion_failed=sum(seen.champion.failed for seen in runs.values()),
    )
