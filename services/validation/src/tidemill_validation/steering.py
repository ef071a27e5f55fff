"""What a person decides about a trial: the next stage now, the promotion now, or no more of it."""

from tidemill_contracts.events import TrialRequested
from tidemill_contracts.rollout import RolloutPolicy, Trial
from tidemill_shared.errors import Poison
from tidemill_shared.pipelines import Pipelines
from tidemill_shared.seal import OperatorCheck
from tidemill_validation.observations import Observations
from tidemill_validation.promoting import Registry
from tidemill_validation.steps import Outcome, Steps, evidence_of
from tidemill_validation.trials import Trials

_DONE = {"advance": "hastened", "promote": "promoted", "end": "ended"}


class Steering:
    """Carries out an operator's requests; the log tells of them as of the automatic steps."""

    def __init__(
        self,
        operator: OperatorCheck,
        pipelines: Pipelines,
        registry: Registry,
        trials: Trials,
        observations: Observations,
        steps: Steps,
    ) -> None:
        self._operator = operator
        self._pipelines = pipelines
        self._registry = registry
        self._trials = trials
        self._observations = observations
        self._steps = steps

    async def on_trial_requested(self, event: TrialRequested) -> Outcome:
        """Take the step that was asked for. Raises Poison when it is about another entry than the present one."""
        self._operator.check(event)
        async with self._steps.turn(event.pipeline):
            done = await self._steps.again(event)
            return done or await self._step(event, await self._meant(event))

    async def _meant(self, event: TrialRequested) -> Trial:
        trial, number = await self._trials.newest(event.pipeline), event.data.trial
        if trial is None or trial.over:
            raise Poison("no_trial", f"{event.pipeline}: nothing is tried beside the champion")
        if trial.sequence != number:
            why = f"it is about entry {number}, and the trial has gone on to {trial.sequence} ({trial.stage})"
            raise Poison("another_trial", f"{event.pipeline}: {why}; look again and ask again")
        return trial

    async def _step(self, event: TrialRequested, trial: Trial) -> Outcome:
        champion = await self._registry.champion(event.pipeline)
        if champion and champion.version == trial.version:
            return await self._steps.arrived(event, trial, champion)
        asked = event.data
        reason = f"{_DONE[asked.action]} by {asked.by}" + (f": {asked.reason}" if asked.reason else "")
        seen = await self._observations.of(event.pipeline, trial.sequence)
        evidence = evidence_of(seen) if seen else None
        if asked.action == "end":
            return await self._steps.append(
                event,
                trial,
                "abandoned",
                reason=reason,
                code="rollout_ended",
                refused=asked.refuse,
                evidence=evidence,
            )
        if champion is None or champion.version != trial.against:
            why = "the champion it was tried beside has changed"
            return await self._steps.append(event, trial, "abandoned", reason=why, evidence=evidence)
        spec = await self._pipelines.spec(event.pipeline)
        policy = spec.rollout if spec else RolloutPolicy()
        return await self._steps.onward(event, trial, policy, reason, evidence, skip=asked.action == "promote")
