"""Anchors that promotions bring: the first champion is one, and so is a model that a person let pass though the golden
set spoke against it, however it then became champion."""

from typing import Any

from tidemill_contracts.envelope import Event
from tidemill_contracts.events import DatasetPrepared, ModelAnchored
from tidemill_contracts.promotion import Promotion, ValidationReport
from tidemill_shared.errors import Retryable
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_validation.anchoring import Anchoring, announced
from tidemill_validation.packages import DAMAGED
from tidemill_validation.promoting import Registry, cause_of
from tidemill_validation.reporting import held

log = logger(__name__)


class Owed:
    """Makes the anchor that a promotion owes. It follows from the promotion alone and has the same cause: whoever finds
    it missing makes the same one, once."""

    def __init__(self, service: Service, registry: Registry, anchoring: Anchoring) -> None:
        self._store = service.store
        self._pipelines = service.pipelines
        self._registry = registry
        self._anchoring = anchoring

    async def by(self, event: Event[Any]) -> ModelAnchored | None:
        """The anchor of the promotion that this event has just led to. Raises Retryable."""
        promotion = await self._registry.caused_by(event)
        return await self.of(event, promotion) if promotion else None

    async def of(self, event: Event[Any], promotion: Promotion, *, again: bool = False) -> ModelAnchored | None:
        """The anchor of a promotion, made or made before; None where it owes none or is history.

        Raises Retryable, unless it was tried before (``again``): nothing holds a promotion back for long, and new rows
        ask once more (``late``).
        """
        try:
            return await self._of(event, promotion)
        except (Retryable, *DAMAGED) as error:
            if isinstance(error, Retryable) and not again:
                raise
            why = f"{type(error).__name__}: {error}"
            log.error("not anchored", pipeline=promotion.pipeline, version=promotion.version, why=why)
            return None

    async def late(self, event: DatasetPrepared, champion: Promotion) -> ModelAnchored | None:
        """The anchor that could not be made when the champion was promoted, if another model still is the anchor."""
        present = await self._anchoring.current(event.pipeline)
        return await self.of(event, champion) if present and present.version != champion.version else None

    async def _of(self, event: Event[Any], promotion: Promotion) -> ModelAnchored | None:
        pipeline = promotion.pipeline
        if promotion.kind == "rollback":
            return None
        if promotion.previous and not held(await self._store.document(promotion.report, ValidationReport)):
            return None
        cause = cause_of(promotion, event)
        present = await self._anchoring.current(pipeline)
        if present and present.version == promotion.version:
            return announced(cause, present) if present.cause == promotion.cause else None
        spec, champion = await self._pipelines.spec(pipeline), await self._registry.champion(pipeline)
        if spec is None or spec.promotion.anchor == "off" or champion != promotion:
            return None
        return await self._anchoring.anchored(cause, promotion, spec, promotion.reason)
