"""The registry of promotions: append-only, one writer, the highest entry is the champion."""

from datetime import UTC, datetime
from typing import Any, Literal

from tidemill_contracts.artifacts import ArtifactRef, promotion_key, promotions_prefix
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import ModelPromoted
from tidemill_contracts.promotion import PromotedModel, Promotion
from tidemill_shared.append_log import AppendLog
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_shared.store import reference

log = logger(__name__)


class Registry:
    """Reads and appends promotions."""

    def __init__(self, service: Service) -> None:
        self._store = service.store
        self._bus = service.bus
        self._logs: dict[str, AppendLog[Promotion]] = {}

    def _log(self, pipeline: str) -> AppendLog[Promotion]:
        return self._logs.setdefault(pipeline, AppendLog(self._store, promotions_prefix(pipeline), Promotion))

    async def champion(self, pipeline: str) -> Promotion | None:
        """The newest promotion."""
        last = await self._log(pipeline).last()
        return last[1] if last else None

    async def history(self, pipeline: str) -> list[Promotion]:
        """All promotions, oldest first."""
        return [p for _, p in await self._log(pipeline).entries()]

    async def promote(
        self,
        cause: Event[Any],
        pipeline: str,
        version: str,
        *,
        manifest: ArtifactRef,
        attestation: ArtifactRef,
        report: ArtifactRef,
        reason: str,
        kind: Literal["promotion", "rollback"] = "promotion",
    ) -> ModelPromoted | None:
        """Append a promotion and return its event; None when this version is champion already.

        The same cause twice appends once and returns the same event.
        """
        async with self._bus.lock(f"promotion:{pipeline}"):
            last = await self._log(pipeline).last()
            sequence, promotion = last or (0, None)
            if promotion is None or promotion.cause != cause.id:
                if promotion is not None and promotion.version == version:
                    return None
                previous = promotion.version if promotion else None
                promotion = Promotion(
                    kind=kind,
                    pipeline=pipeline,
                    sequence=sequence + 1,
                    version=version,
                    manifest=manifest,
                    attestation=attestation,
                    report=report,
                    previous=previous,
                    reason=reason[:500],
                    cause=cause.id,
                    promoted_at=datetime.now(UTC),
                )
                await self._log(pipeline).append(promotion.sequence, promotion)
                log.info("promoted", pipeline=pipeline, version=version, sequence=promotion.sequence, kind=kind)
        data = PromotedModel(
            pipeline=pipeline,
            version=promotion.version,
            sequence=promotion.sequence,
            kind=promotion.kind,
            promotion=reference(promotion_key(pipeline, promotion.sequence), promotion.to_json()),
            manifest=promotion.manifest,
            attestation=promotion.attestation,
            previous=promotion.previous,
            reason=promotion.reason,
        )
        return ModelPromoted.caused_by(cause, data, subject=f"{pipeline}/{promotion.version}")
