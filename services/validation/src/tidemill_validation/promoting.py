"""The registry of promotions: append-only, one writer, the highest entry is the champion."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from tidemill_contracts.artifacts import ArtifactRef, promotion_key, promotions_prefix
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import ModelPromoted
from tidemill_contracts.names import Version
from tidemill_contracts.promotion import PromotedModel, Promotion
from tidemill_shared.errors import Retryable
from tidemill_shared.log import logger
from tidemill_shared.seal import PromotionSeal
from tidemill_shared.service import Service
from tidemill_shared.store import reference
from tidemill_validation.sealed_log import SealedLog

log = logger(__name__)
_REMEMBERED = 64
"""Newest entries in which a repeated cause is looked for."""


@dataclass(frozen=True)
class Choice:
    """What shall become champion, and why."""

    version: str
    manifest: ArtifactRef
    attestation: ArtifactRef
    report: ArtifactRef
    reason: str
    kind: Literal["promotion", "rollback"] = "promotion"
    withdrawn: Version | None = None
    """The champion whose place it takes because that one proved worse."""


class Registry:
    """Reads and appends promotions."""

    def __init__(self, service: Service, seal: PromotionSeal) -> None:
        self._bus = service.bus
        self._seal = seal
        self._log = SealedLog(service.store, Promotion, promotions_prefix, seal.check.opened)

    async def champion(self, pipeline: str) -> Promotion | None:
        """The newest promotion."""
        return await self._log.newest(pipeline)

    async def history(self, pipeline: str) -> list[Promotion]:
        """All promotions, oldest first."""
        return await self._log.all(pipeline)

    async def withdrawn(self, pipeline: str) -> set[Version]:
        """Champions that proved worse than the one before them, and are not promoted again."""
        return {p.withdrawn for p in await self.history(pipeline) if p.withdrawn}

    async def of_version(self, pipeline: str, version: Version) -> Promotion | None:
        """The newest promotion of a version."""
        return await self._log.newest(pipeline, lambda promotion: promotion.version == version)

    async def caused_by(self, cause: Event[Any]) -> Promotion | None:
        """The promotion that this event has led to, when it was handled before."""
        newest = await self.champion(cause.pipeline)
        after = newest.sequence - _REMEMBERED if newest else 0
        return await self._log.newest(cause.pipeline, lambda promotion: promotion.cause == cause.id, after=after)

    async def promote(
        self, cause: Event[Any], choice: Choice, *, against: tuple[str | None] | None = None
    ) -> ModelPromoted | None:
        """Append a promotion and return its event; None when this version is champion already.

        The same cause twice appends once and returns the same event. Raises Retryable when the champion is no longer
        the one the choice was made ``against``: (its version,), or (None,) for none.
        """
        pipeline = cause.pipeline
        async with self._bus.lock(f"promotion:{pipeline}"):
            done = await self.caused_by(cause)
            if done:
                return announced(cause, done)
            champion = await self.champion(pipeline)
            if champion and champion.version == choice.version:
                return None
            if against is not None and against != (champion.version if champion else None,):
                raise Retryable(f"{pipeline}: the champion changed while {choice.version} was judged")
            promotion = Promotion(
                kind=choice.kind,
                pipeline=pipeline,
                sequence=await self._log.height(pipeline) + 1,
                version=choice.version,
                manifest=choice.manifest,
                attestation=choice.attestation,
                report=choice.report,
                previous=champion.version if champion else None,
                withdrawn=choice.withdrawn,
                reason=choice.reason[:500],
                cause=cause.id,
                promoted_at=datetime.now(UTC),
            )
            promotion = self._seal.sealed(promotion)
            await self._log.append(pipeline, promotion.sequence, promotion)
        log.info("promoted", pipeline=pipeline, version=choice.version, sequence=promotion.sequence, kind=choice.kind)
        return announced(cause, promotion)


def cause_of(promotion: Promotion, event: Event[Any]) -> Event[Any]:
    """What led to a promotion, as its events need it: ``event`` itself, or in its stead when another one finds it."""
    if event.id == promotion.cause:
        return event
    return event.model_copy(update={"id": promotion.cause, "correlationid": None})


def announced(event: Event[Any], promotion: Promotion) -> ModelPromoted:
    """The event of an entry: the same one, whichever ``event`` it is told after."""
    cause, pipeline, version = cause_of(promotion, event), promotion.pipeline, promotion.version
    data = PromotedModel(
        pipeline=pipeline,
        version=version,
        sequence=promotion.sequence,
        kind=promotion.kind,
        promotion=reference(promotion_key(pipeline, promotion.sequence), promotion.to_json()),
        manifest=promotion.manifest,
        attestation=promotion.attestation,
        previous=promotion.previous,
        withdrawn=promotion.withdrawn,
        reason=promotion.reason,
    )
    return ModelPromoted.caused_by(cause, data, subject=f"{pipeline}/{version}")
