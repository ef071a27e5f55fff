"""What is tried beside the champions: found in the sealed log, proven as a promotion is, counted and told of."""

import asyncio
import secrets
import time

from redis.exceptions import RedisError

from tidemill_contracts.artifacts import trial_key, trials_prefix
from tidemill_contracts.events import RolloutChanged, RolloutObserved
from tidemill_contracts.rollout import Observation, ObservedRollout, Trial
from tidemill_serving.apart import Apart
from tidemill_serving.bins import edges_of
from tidemill_serving.loading import Loaded, Loader
from tidemill_serving.models import Models
from tidemill_serving.settings import ServingGroup
from tidemill_serving.shadowing import Shadows
from tidemill_serving.tally import Tally
from tidemill_serving.trying import Running, Trying, Works
from tidemill_serving.watching import Watch, Watches
from tidemill_shared.append_log import AppendLog
from tidemill_shared.delivery import Delivery
from tidemill_shared.errors import ObjectMissing, Poison, Retryable
from tidemill_shared.log import logger
from tidemill_shared.seal import PromotionCheck
from tidemill_shared.service import Service

log = logger(__name__)
_SILENCE_SECONDS = 10.0
"""A stage in which nothing happens is told of this often, so that its time can run out."""


class Rollouts:
    """At most one trial a pipeline."""

    def __init__(
        self,
        service: Service,
        models: Models,
        loader: Loader,
        check: PromotionCheck,
        works: Works,
        settings: ServingGroup,
    ) -> None:
        self._bus = service.bus
        self._store = service.store
        self._pipelines = service.pipelines
        self._models = models
        self._loader = loader
        self._check = check
        self._works = works
        self._shadows = Shadows(service.bus, works, settings.max_rows)
        self._settings = settings
        self._run = f"{service.bus.consumer}-{secrets.token_hex(4)}"
        self._watches = Watches(service, models, works, self._run, settings)
        self._running: dict[str, Running] = {}
        self._told: dict[str, tuple[int, int, float]] = {}
        """Entry, rows and time of the last observation of each pipeline."""
        self._ended: dict[str, int] = {}
        """Entry after which nothing is tried."""
        self._problems: dict[str, tuple[int, str]] = {}
        self._logs: dict[str, AppendLog[Trial]] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    def beside(self, pipeline: str, champion: Loaded | None, batch: list[Delivery]) -> Trying | None:
        """How a batch is worked on when a challenger is tried beside this champion."""
        if champion is None:
            return None
        running = self.running(pipeline, champion)
        if running is not None:
            return Trying(self._works, champion, running)
        watch = self._watches.of(pipeline, champion)
        if watch is not None:
            watch.keep(batch)
        return None

    def beside_asked(self, pipeline: str, champion: Loaded) -> Running | Watch | None:
        """Who is to see an HTTP request to this champion: a trial, or the watch over it."""
        if not (self._running or self._watches.rows):
            return None
        return self.running(pipeline, champion) or self._watches.of(pipeline, champion)

    def running(self, pipeline: str, champion: Loaded) -> Running | None:
        """The trial beside this champion."""
        running = self._running.get(pipeline)
        return running if running is not None and champion.version == running.trial.against else None

    async def load_all(self) -> None:
        """Before anything is consumed: take up what is under way. Raises Retryable when the store is away."""
        await self._watches.start()
        for pipeline in self._pipelines.names():
            if await self._staged(pipeline):
                await self.refresh(pipeline)

    async def follow(self, event: RolloutChanged) -> None:
        """A trial began, went on or ended; what counts is the log."""
        await self.refresh(event.pipeline)

    async def watch(self) -> None:
        """Look at the logs now and then: an event may have been missed."""
        while True:
            await asyncio.sleep(self._settings.refresh_seconds)
            for pipeline in self._pipelines.names():
                if pipeline in self._running or await self._staged(pipeline):
                    try:
                        await self.refresh(pipeline)
                    except (Retryable, RedisError) as error:
                        log.warning("cannot look at the rollouts", pipeline=pipeline, why=str(error))

    async def stop(self) -> None:
        """No more shadows, and no more of the challengers' threads."""
        await self._shadows.stop()
        for running in self._running.values():
            running.apart.close()

    async def observe(self) -> None:
        """Tell what was counted, now and then."""
        await asyncio.gather(self._watches.observe(), self._observe())

    async def _observe(self) -> None:
        while True:
            await asyncio.sleep(self._settings.observe_seconds)
            for pipeline in [*self._running, *self._problems]:
                try:
                    await self._tell(pipeline)
                except RedisError as error:
                    log.warning("cannot tell of a rollout", pipeline=pipeline, why=str(error))

    async def _staged(self, pipeline: str) -> bool:
        """Whether anything may be tried there: by this revision, or since an earlier one asked for it."""
        spec = await self._pipelines.spec(pipeline)
        return spec is not None and (bool(spec.rollout.stages) or spec.revision > 1)

    async def refresh(self, pipeline: str) -> None:
        """Try what the newest sealed entry says. Raises Retryable when the store is away."""
        async with self._turns.setdefault(pipeline, asyncio.Lock()):
            trial = await self._newest(pipeline)
            if trial is None:
                return
            if trial.over:
                await self._end(trial, drop=trial.stage == "abandoned")
                return
            running = self._running.get(pipeline)
            if running and running.trial.sequence == trial.sequence:
                return
            try:
                await self._begin(trial)
            except (Poison, ObjectMissing) as error:
                await self._end(trial, drop=True)
                if isinstance(error, Poison):  # what is missing may come, and is tried again
                    self._problems[pipeline] = (trial.sequence, str(error)[:900])
                log.error("trial refused", pipeline=pipeline, sequence=trial.sequence, why=str(error))

    async def _begin(self, trial: Trial) -> None:
        running = await self._proven(trial)
        if trial.stage == "shadow":
            await self._shadows.begin(running)
        else:
            await self._shadows.end(trial.pipeline)
        self._running[trial.pipeline] = running
        self._problems.pop(trial.pipeline, None)
        self._ended.pop(trial.pipeline, None)

    async def _end(self, trial: Trial, *, drop: bool) -> None:
        """Nothing is tried. A challenger that was promoted stays at hand until the promotion is carried out."""
        running = self._running.pop(trial.pipeline, None)
        self._problems.pop(trial.pipeline, None)
        if running and drop:
            running.apart.close()
        if drop:
            self._models.shelf.try_out(trial.pipeline, None)
        if self._ended.get(trial.pipeline) != trial.sequence:
            await self._shadows.end(trial.pipeline)
            self._ended[trial.pipeline] = trial.sequence

    async def _newest(self, pipeline: str) -> Trial | None:
        entries = self._logs.setdefault(pipeline, AppendLog(self._store, trials_prefix(pipeline), Trial))
        for sequence in range(await entries.height(), 0, -1):
            data = await self._store.read(trial_key(pipeline, sequence))
            try:
                if data is not None:
                    return self._check.opened_trial(data, pipeline, sequence)
            except Poison as error:
                log.error("not a trial of validation's", pipeline=pipeline, sequence=sequence, why=str(error))
        return None

    async def _proven(self, trial: Trial) -> Running:
        """The challenger proven as a champion is: judged, signed, whole, golden."""
        loaded = self._models.shelf.tried(trial.pipeline)
        if loaded is None or loaded.manifest != trial.manifest:
            loaded = await self._loader.load(trial)
            self._models.shelf.try_out(trial.pipeline, loaded)
        edges = await edges_of(self._store, loaded)
        log.info(
            "a challenger is tried",
            pipeline=trial.pipeline,
            version=trial.version,
            stage=trial.stage,
            share=trial.share,
        )
        apart = Apart(self._settings.canary_seconds)
        return Running(trial, loaded, Tally(trial.against, edges), Tally(trial.version, edges), apart)

    async def _tell(self, pipeline: str) -> None:
        observed = self._observed(pipeline)
        if observed is None:
            return
        rows = observed.champion.rows + observed.challenger.rows
        told = self._told.get(pipeline)
        if told and told[:2] == (observed.trial, rows) and time.monotonic() - told[2] < _SILENCE_SECONDS:
            return
        self._told[pipeline] = (observed.trial, rows, time.monotonic())
        subject = f"{pipeline}/{observed.challenger.version}"
        await self._bus.publish(RolloutObserved.root(observed, subject=subject, source="urn:tidemill:serving"))

    def _observed(self, pipeline: str) -> ObservedRollout | None:
        running = self._running.get(pipeline)
        if running:
            return ObservedRollout(
                trial=running.trial.sequence,
                run=self._run,
                champion=running.champion.observation(),
                challenger=running.challenger.observation(),
            )
        if pipeline not in self._problems:
            return None
        sequence, problem = self._problems[pipeline]
        nobody = Observation(version="0" * 12)
        return ObservedRollout(trial=sequence, run=self._run, champion=nobody, challenger=nobody, problem=problem)
