"""Rollouts: when a challenger that passed the gate is tried beside the champion, goes on, is promoted or is stopped."""

from datetime import UTC, datetime
from typing import Any

from tidemill_contracts.envelope import Event
from tidemill_contracts.events import ModelPromoted, RolloutChanged, RolloutObserved
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import Promotion
from tidemill_contracts.rollout import RolloutPolicy, Trial
from tidemill_shared.errors import Retryable
from tidemill_shared.service import Service
from tidemill_validation.domain import rollout
from tidemill_validation.observations import Observations, limits_of
from tidemill_validation.packages import Packages
from tidemill_validation.promoting import Choice, Registry
from tidemill_validation.steps import Outcome, Steps, evidence_of, said
from tidemill_validation.trials import Trials, changed
from tidemill_validation.watching import Watching


class Conducting:
    """Conducts one trial a pipeline at a time."""

    def __init__(
        self,
        service: Service,
        registry: Registry,
        packages: Packages,
        trials: Trials,
        observations: Observations,
        steps: Steps,
    ) -> None:
        self._pipelines = service.pipelines
        self._registry = registry
        self._trials = trials
        self._observations = observations
        self._steps = steps
        self._watching = Watching(service, registry, packages, observations)

    async def begun(self, event: Event[Any]) -> Trial | None:
        """The entry this event has led to, when it was handled before."""
        return await self._trials.caused_by(event.pipeline, event.id)

    async def refused(self, pipeline: str) -> set[str]:
        """Challengers that are not promoted any more."""
        return await self._trials.refused(pipeline)

    async def place(
        self, event: Event[Any], choice: Choice, spec: PipelineSpec, against: str | None
    ) -> ModelPromoted | RolloutChanged | None:
        """Promote what has passed, or begin to try it beside the champion, as the pipeline asks. Raises Retryable when
        the champion is no longer the one it was judged against."""
        if against is None or not spec.rollout.stages:
            return await self._registry.promote(event, choice, against=(against,))
        stage, share = spec.rollout.stages[0]
        async with self._steps.turn(event.pipeline):
            present = await self._trials.newest(event.pipeline)
            if present and present.cause == event.id:
                return changed(event, present)
            champion = await self._registry.champion(event.pipeline)
            if champion and champion.version == choice.version:
                return None
            if champion is None or champion.version != against:
                raise Retryable(f"{event.pipeline}: the champion changed while {choice.version} was judged")
            reason = choice.reason
            if present and not present.over and present.against == against:
                if present.version == choice.version:
                    return None
                reason = f"takes the place of {present.version}: {reason}"
            facts = {
                "stage": stage,
                "share": share,
                "version": choice.version,
                "manifest": choice.manifest,
                "attestation": choice.attestation,
                "report": choice.report,
                "against": against,
                "reason": reason,
            }
            return changed(event, await self._trials.append(event, facts))

    async def present(self, champion: Promotion) -> Trial | None:
        """What is tried beside this champion."""
        trial = await self._trials.newest(champion.pipeline)
        return trial if trial and not trial.over and trial.against == champion.version else None

    async def on_rollout_observed(self, event: RolloutObserved) -> Outcome | None:
        """Counts of a serving process: add them up and decide."""
        async with self._steps.turn(event.pipeline):
            if event.data.promotion is not None:
                returned = await self._watching.judge(event)
                return [returned] if returned else None
            trial = await self._trials.newest(event.pipeline)
            if trial is None:
                return None
            if trial.over or trial.sequence != event.data.trial:
                return await self._steps.again(event)
            return await self._decide(event, trial)

    async def _decide(self, event: RolloutObserved, trial: Trial) -> Outcome | None:
        champion = await self._registry.champion(event.pipeline)
        if champion and champion.version == trial.version:
            return await self._steps.arrived(event, trial, champion)
        if champion is None or champion.version != trial.against:
            return await self._steps.append(
                event, trial, "abandoned", reason="the champion it was tried beside has changed"
            )
        if event.data.problem:
            reason = f"it cannot be loaded: {event.data.problem}"
            return await self._steps.append(event, trial, "abandoned", reason=reason, refused=True)
        seen = await self._observations.add(event)
        spec = await self._pipelines.spec(event.pipeline)
        policy = spec.rollout if spec else RolloutPolicy()
        seconds = (datetime.now(UTC) - trial.decided_at).total_seconds()
        limits = limits_of(policy, rows=policy.bake_rows, seconds=policy.bake_seconds)
        verdict = rollout.judge(seen.champion, seen.challenger, limits, seconds)
        evidence = evidence_of(seen)
        if verdict.action == "stop":
            return await self._steps.append(
                event, trial, "abandoned", reason=verdict.reason, refused=True, evidence=evidence, code=verdict.code
            )
        if verdict.action == "wait":
            return None
        return await self._steps.onward(event, trial, policy, verdict.reason, evidence)

    async def stop(self, event: Event[Any], trial: Trial, reason: str, code: str) -> Outcome | None:
        """Abandon a trial whose challenger proved bad elsewhere; None when it is over already."""
        async with self._steps.turn(event.pipeline):
            present = await self._trials.newest(event.pipeline)
            if present and present.cause == event.id:
                return said(event, present)
            champion = await self._registry.champion(event.pipeline)
            if present is None or present.over or present.version != trial.version:
                return None
            if champion and champion.version == present.version:  # meanwhile; the next counts end the trial
                return None
            return await self._steps.append(event, present, "abandoned", reason=reason, refused=True, code=code)
