"""The log of rollouts: append-only, sealed, one writer; the highest entry says what is being tried."""

from datetime import UTC, datetime
from typing import Any

from tidemill_contracts.artifacts import trial_key, trials_prefix
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import RolloutChanged
from tidemill_contracts.names import EventId, Version
from tidemill_contracts.rollout import ChangedRollout, Trial
from tidemill_shared.log import logger
from tidemill_shared.seal import PromotionSeal
from tidemill_shared.service import Service
from tidemill_shared.store import reference
from tidemill_validation.sealed_log import SealedLog

log = logger(__name__)


class Trials:
    """Reads and appends entries. Who appends holds the lock of the pipeline's rollouts."""

    def __init__(self, service: Service, seal: PromotionSeal) -> None:
        self._seal = seal
        self._log = SealedLog(service.store, Trial, trials_prefix, seal.check.opened_trial)

    async def newest(self, pipeline: str) -> Trial | None:
        """The newest entry."""
        return await self._log.newest(pipeline)

    async def all(self, pipeline: str) -> list[Trial]:
        """Every entry, oldest first."""
        return await self._log.all(pipeline)

    async def caused_by(self, pipeline: str, cause: EventId, after: int = 0) -> Trial | None:
        """The newest entry, of those that follow number ``after``, that this event has led to."""
        return await self._log.newest(pipeline, lambda trial: trial.cause == cause, after=after)

    async def refused(self, pipeline: str) -> set[Version]:
        """Challengers that proved bad while they were tried, and are not promoted."""
        return {t.version for t in await self.all(pipeline) if t.refused}

    async def append(self, cause: Event[Any], facts: dict[str, Any]) -> Trial:
        """Write the next entry: ``facts`` beside what follows from its place and its cause."""
        pipeline = cause.pipeline
        sequence = await self._log.height(pipeline) + 1
        facts = facts | {"sequence": sequence, "cause": cause.id, "decided_at": datetime.now(UTC), "signature": None}
        trial = self._seal.sealed(Trial.model_validate(facts | {"pipeline": pipeline, "reason": facts["reason"][:500]}))
        await self._log.append(pipeline, sequence, trial)
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
