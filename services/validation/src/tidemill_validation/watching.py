"""After a promotion: the model before it comes back when the new one fails, slows down or answers otherwise."""

from tidemill_contracts.events import ModelPromoted, RolloutObserved
from tidemill_contracts.rollout import RolloutPolicy
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_shared.telemetry import counter
from tidemill_validation.domain import rollout
from tidemill_validation.observations import Observations, limits_of
from tidemill_validation.packages import Packages
from tidemill_validation.promoting import Choice, Registry, announced

log = logger(__name__)


class Watching:
    """Judges champions that are still watched."""

    def __init__(self, service: Service, registry: Registry, packages: Packages, observations: Observations) -> None:
        self._pipelines = service.pipelines
        self._registry = registry
        self._packages = packages
        self._observations = observations

    async def judge(self, event: RolloutObserved) -> ModelPromoted | None:
        """The rollback, if the counts of a server ask for it."""
        pipeline = event.pipeline
        champion = await self._registry.champion(pipeline)
        if champion is None:
            return None
        if champion.cause == event.id:  # a crash came between the registry and the event
            return announced(event, champion)
        if champion.sequence != event.data.promotion or champion.kind != "promotion" or champion.previous is None:
            return None
        spec = await self._pipelines.spec(pipeline)
        policy = spec.rollout if spec else RolloutPolicy()
        seen = await self._observations.add(event)
        verdict = rollout.judge(
            seen.champion, seen.challenger, limits_of(policy, rows=policy.watch_rows, seconds=0.0), 0.0
        )
        former = await self._registry.of_version(pipeline, champion.previous)
        if verdict.action != "stop" or former is None:
            return None
        await self._packages.verified(pipeline, former.version, former.manifest, former.attestation)
        log.warning("the champion is withdrawn", pipeline=pipeline, version=champion.version, why=verdict.reason)
        counter("tidemill.validation.rollouts").add(1, {"pipeline": pipeline, "stage": "withdrawn"})
        choice = Choice(
            former.version,
            former.manifest,
            former.attestation,
            former.report,
            f"withdrawn: {verdict.reason}",
            "rollback",
            champion.version,
        )
        return await self._registry.promote(event, choice, against=(champion.version,))
