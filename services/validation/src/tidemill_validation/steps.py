"""Steps of a trial: the next entry of the log, and the events that tell of it."""

from contextlib import AbstractAsyncContextManager
from typing import Any

from tidemill_contracts.dataset import Reason
from tidemill_contracts.envelope import Event
from tidemill_contracts.events import (
    ModelAnchored,
    ModelPromoted,
    ModelRejected,
    RolloutChanged,
    RolloutObserved,
    TrialRequested,
)
from tidemill_contracts.promotion import Promotion, RejectedModel
from tidemill_contracts.rollout import DURATION_STEP, Evidence, RolloutPolicy, Trial
from tidemill_shared.service import Service
from tidemill_shared.telemetry import counter
from tidemill_validation.domain import rollout
from tidemill_validation.observations import Observations, Seen
from tidemill_validation.owed import Owed
from tidemill_validation.promoting import Choice, Registry, announced
from tidemill_validation.trials import Trials, changed

Outcome = list[ModelPromoted | ModelAnchored | ModelRejected | RolloutChanged]


class Steps:
    """Whoever takes one holds the pipeline's turn."""

    def __init__(
        self, service: Service, registry: Registry, trials: Trials, observations: Observations, owed: Owed
    ) -> None:
        self._bus = service.bus
        self._registry = registry
        self._trials = trials
        self._observations = observations
        self._owed = owed

    def turn(self, pipeline: str) -> AbstractAsyncContextManager[None]:
        """One decision about a pipeline's rollouts at a time. Raises Retryable."""
        return self._bus.lock(f"rollout:{pipeline}")

    async def onward(
        self,
        event: Event[Any],
        trial: Trial,
        policy: RolloutPolicy,
        reason: str,
        evidence: Evidence | None,
        *,
        skip: bool = False,
    ) -> Outcome:
        """The next stage, or after the last one, or with ``skip`` at once, the promotion."""
        step = trial.step + 1
        if step < len(policy.stages) and not skip:
            stage, share = policy.stages[step]
            return await self.append(event, trial, stage, reason=reason, share=share, step=step, evidence=evidence)
        why = f"rolled out: {reason}"
        choice = Choice(trial.version, trial.manifest, trial.attestation, trial.report, why)
        promoted = await self._registry.promote(event, choice, against=(trial.against,))
        anchored = await self._owed.by(event) if promoted else None
        ended = await self.append(event, trial, "finished", reason=reason, evidence=evidence)
        return [*(e for e in (promoted, anchored) if e), *ended]

    async def append(
        self, event: Event[Any], trial: Trial, stage: str, *, reason: str, code: str = "", **facts: Any
    ) -> Outcome:
        """Write the entry that follows ``trial``; what was counted so far belongs to the stage before."""
        entry = trial.model_dump() | {"share": 0.0, "evidence": None, "stage": stage, "reason": reason, **facts}
        found = await self._trials.append(event, entry)
        counter("tidemill.validation.rollouts").add(1, {"pipeline": event.pipeline, "stage": stage})
        await self._observations.drop(event.pipeline)
        return said(event, found, code)

    async def arrived(self, event: Event[Any], trial: Trial, champion: Promotion) -> Outcome:
        """End a trial whose challenger is champion, and tell of its promotion: a crash may have come between the two,
        and then nobody was told."""
        told, reason = await self._told(event, champion), f"it became champion: {champion.reason}"
        return [*told, *await self.append(event, trial, "finished", reason=reason, evidence=trial.evidence)]

    async def again(self, event: TrialRequested | RolloutObserved) -> Outcome | None:
        """The events of what this event led to before a crash, which is ended first where it was left half done; None
        for an event that led to nothing yet."""
        trial = await self._trials.caused_by(event.pipeline, event.id, after=event.data.trial)
        promotion = await self._registry.caused_by(event)
        if trial is None:
            return await self._ended(event, promotion) if promotion else None
        if promotion is None and trial.stage == "finished":  # another event had promoted it
            promotion = await self._registry.of_version(event.pipeline, trial.version)
        return [*(await self._told(event, promotion) if promotion else []), *said(event, trial)]

    async def _ended(self, event: Event[Any], promotion: Promotion) -> Outcome:
        """A promotion whose trial was left open is told with its end; where the log has gone on, alone."""
        trial = await self._trials.newest(event.pipeline)
        if trial and not trial.over and trial.version == promotion.version:
            return await self.arrived(event, trial, promotion)
        return await self._told(event, promotion)

    async def _told(self, event: Event[Any], promotion: Promotion) -> Outcome:
        """The events of a promotion that was made before."""
        anchored = await self._owed.of(event, promotion, again=True)
        return [announced(event, promotion), *([anchored] if anchored else [])]


def said(event: Event[Any], trial: Trial, code: str = "rollout") -> Outcome:
    """The events of an entry; a challenger that proved bad is a candidate refused."""
    if not trial.refused:
        return [changed(event, trial)]
    data = RejectedModel(
        pipeline=trial.pipeline,
        version=trial.version,
        manifest=trial.manifest,
        report=trial.report,
        reasons=(Reason(code=code or "rollout", message=trial.reason),),
    )
    rejected = ModelRejected.caused_by(event, data, subject=f"{trial.pipeline}/{trial.version}")
    return [changed(event, trial), rejected]


def evidence_of(seen: Seen) -> Evidence:
    """What both did, as a document."""
    found = rollout.distance(seen.champion.answers, seen.challenger.answers)
    pace = next(iter(rollout.paces(seen.champion, seen.challenger, DURATION_STEP)), None)
    return Evidence(
        rows=seen.challenger.rows,
        failed=seen.challenger.failed,
        champion_rows=seen.champion.rows,
        champion_failed=seen.champion.failed,
        milliseconds=pace.milliseconds if pace else None,
        champion_milliseconds=pace.champion_milliseconds if pace else None,
        distance=max(0.0, found[0] - found[1]) if found else None,
    )
