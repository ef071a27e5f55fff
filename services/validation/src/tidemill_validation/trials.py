"""The log of rollouts: append-only, sealed, one writer; the highest entry says what is being tried."""

from datetime import UTC, datetime
from typing import Any

from tidemill_contracts.artifacts import trial_key, trials_prefix
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import RolloutChanged
from tidemill_contracts.names import EventId, Version
from tidemill_contracts.rollout import ChangedRollout, Trial
from tidemill_shared.append_log import AppendLog
from tidemill_shared.errors import Poison
from tidemill_shared.log import logger
from tidemill_shared.seal import PromotionSeal
from tidemill_shared.service import Service
from tidemill_shared.store import reference

log = logger(__name__)


class Trials:
    """Reads and appends entries. Who appends holds the lock of the pipeline's rollouts."""

    def __init__(self, service: Service, seal: PromotionSeal) -> None:
        self._store = service.store
        self._seal = seal
        self._logs: dict[str, AppendLog[Trial]] = {}

    def _log(self, pipeline: str) -> AppendLog[Trial]:
        return self._logs.setdefault(pipeline, AppendLog(self._store, trials_prefix(pipeline), Trial))

    async def _entry(self, pipeline: str, sequence: int) -> Trial | None:
        """An entry of our own; None for one that is missing or that somebody else put there."""
        data = await self._store.read(trial_key(pipeline, sequence))
        if data is None:
            return None
        try:
            return self._seal.check.opened_trial(data, pipeline, sequence)
        except Poison as error:
            log.error("not a trial of ours", pipeline=pipeline, sequence=sequence, why=str(error))
            return None

    async def newest(self, pipeline: str) -> Trial | None:
        """The newest entry."""
        for sequence in range(await self._log(pipeline).height(), 0, -1):
            trial = await self._entry(pipeline, sequence)
            if trial:
                return trial
        return None

    async def all(self, pipeline: str) -> list[Trial]:
        """Every entry, oldest first."""
        found = [await self._entry(pipeline, sequence) for sequence in await self._log(pipeline).sequences()]
        return [trial for trial in found if trial]

    async def caused_by(self, pipeline: str, cause: EventId, after: int = 0) -> Trial | None:
        """The newest entry, of those that follow number ``after``, that this event has led to."""
        for sequence in range(await self._log(pipeline).height(), after, -1):
            trial = await self._entry(pipeline, sequence)
            if trial and trial.cause == cause:
                return trial
        return None

    async def refused(self, pipeline: str) -> set[Version]:
        """Challengers that proved bad while they were tried, and are not promoted."""
        return {t.version for t in await self.all(pipeline) if t.refused}

    async def append(self, cause: Event[Any], facts: dict[str, Any]) -> Trial:
        """Write the next entry: ``facts`` beside what follows from its place and its cause."""
        pipeline = cause.pipeline
        sequence = await self._log(pipeline).height() + 1
        facts = facts | {"sequence": sequence, "cause": cause.id, "decided_at": datetime.now(UTC), "signature": None}
        trial = self._seal.sealed(Trial.model_validate(facts | {"pipeline": pipeline, "reason": facts["reason"][:500]}))
        await self._log(pipeline).append(sequence, trial)
        log.info(
            "rollout changed",
            pipeline=pipeline,
            version=trial.version,
            stage=trial.stage,
            share=trial.share,
            why=trial.reason,
        )
        return trial


def changed(cause: Event[Any], trial: Trial) -> RolloutChanged:
    """The event of an entry."""
    data = ChangedRollout(
        pipeline=trial.pipeline,
        version=trial.version,
        against=trial.against,
        sequence=trial.sequence,
        stage=trial.stage,
        share=trial.share,
        trial=reference(trial_key(trial.pipeline, trial.sequence), trial.to_json()),
        reason=trial.reason,
        evidence=trial.evidence,
    )
    return RolloutChanged.caused_by(cause, data, subject=f"{trial.pipeline}/{trial.version}")
