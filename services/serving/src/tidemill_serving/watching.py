"""After a promotion: what the new champion does beside the one before it, on the same requests.

Nobody waits for it: requests that were answered are kept, some of them, and scored once more by both in a thread; what
they say is counted and forgotten. How many rows of a promotion were watched is kept in Redis, for all servers together
and over their restarts.
"""

import asyncio
import time
from typing import Any

from redis.exceptions import RedisError

from tidemill_contracts.events import RolloutObserved
from tidemill_contracts.rollout import ObservedRollout
from tidemill_contracts.streams import state_key
from tidemill_serving.asked import Kept, scored
from tidemill_serving.bins import edges_of
from tidemill_serving.loading import Loaded
from tidemill_serving.models import Models
from tidemill_serving.patience import Patience
from tidemill_serving.settings import ServingGroup
from tidemill_serving.tally import Tally
from tidemill_serving.trying import Works, counted
from tidemill_shared.delivery import Delivery
from tidemill_shared.errors import ObjectMissing, Poison, TidemillError
from tidemill_shared.log import logger
from tidemill_shared.service import Service

log = logger(__name__)


class Watch:
    """A promotion whose champion is watched until ``over``."""

    def __init__(self, present: Loaded, pause_seconds: float) -> None:
        self.present = present
        self.patience = Patience(pause_seconds)
        self.over = False
        self.sides: tuple[tuple[Loaded, Tally], ...] = ()
        """The present model and the one before it, once that is at hand."""
        self.kept: Kept[list[Delivery] | bytes] = Kept()

    def keep(self, batch: list[Delivery]) -> None:
        """For the next look, if there is room."""
        self.kept.put(batch, len(batch), sum(len(delivery.body) for delivery in batch))

    def asked(self, _: Loaded, body: bytes) -> None:
        """The same for a request over HTTP."""
        self.kept.put(body, 1, len(body))

    def end(self) -> None:
        """There is nothing to be seen, or enough was seen."""
        self.over = True
        self.kept.taken()


class Watches:
    """Of the pipelines that ask for it."""

    def __init__(self, service: Service, models: Models, works: Works, run: str, settings: ServingGroup) -> None:
        self._bus = service.bus
        self._store = service.store
        self._pipelines = service.pipelines
        self._models = models
        self._works = works
        self._run = run
        self._settings = settings
        self.rows: dict[str, int] = {}
        """To be watched, of the pipelines that ask for it."""
        self._watches: dict[str, Watch] = {}

    async def start(self) -> None:
        """Learn who asks for it, now and whenever a specification changes."""
        await self._on_declared(*self._pipelines.names())
        self._pipelines.on_change(self._on_declared)

    async def _on_declared(self, *pipelines: str) -> None:
        for pipeline in pipelines:
            spec = await self._pipelines.spec(pipeline)
            self.rows.pop(pipeline, None)
            if spec and spec.rollout.watch_rows:
                self.rows[pipeline] = spec.rollout.watch_rows

    def of(self, pipeline: str, champion: Loaded) -> Watch | None:
        """The watch over this champion, where there is one."""
        if pipeline not in self.rows:
            return None
        watch = self._watches.get(pipeline)
        if watch is None or watch.present.sequence != champion.sequence:
            watch = self._watches[pipeline] = Watch(champion, self._settings.observe_seconds)
        return None if watch.over else watch

    async def observe(self) -> None:
        """Compare and tell, now and then."""
        while True:
            await asyncio.sleep(self._settings.observe_seconds)
            await self.look(time.monotonic())

    async def look(self, now: float) -> None:
        """At each watch that is due."""
        for pipeline, watch in list(self._watches.items()):
            if watch.over or not watch.patience.due(now):
                continue
            try:
                await self._look(pipeline, watch)
            except (TidemillError, RedisError) as error:
                hopeless = watch.patience.failed(now, lost=isinstance(error, ObjectMissing))
                if hopeless or isinstance(error, Poison):
                    watch.end()
                self._say(pipeline, watch, error)
            else:
                watch.patience.succeeded()

    def _say(self, pipeline: str, watch: Watch, error: Exception) -> None:
        facts: dict[str, Any] = {"pipeline": pipeline, "sequence": watch.present.sequence, "why": str(error)}
        if watch.over:
            log.error("a promotion is watched no more", **facts)
        else:
            log.warning("cannot watch a promotion, will try again", **facts)

    async def _look(self, pipeline: str, watch: Watch) -> None:
        watch.sides = watch.sides or await self._begin(pipeline, watch)
        kept = watch.kept.taken()
        if not kept or not watch.sides:
            return
        (_, present), (_, previous) = watch.sides
        before = present.rows
        await asyncio.to_thread(self._compare, pipeline, watch.sides, kept)
        observed = ObservedRollout(
            promotion=watch.present.sequence,
            run=self._run,
            champion=previous.observation(),
            challenger=present.observation(),
        )
        subject = f"{pipeline}/{present.version}"
        await self._bus.publish(RolloutObserved.root(observed, subject=subject, source="urn:tidemill:serving"))
        key, field = self._progress(pipeline), str(watch.present.sequence)
        if await self._bus.redis.hincrby(key, field, present.rows - before) >= self.rows.get(pipeline, 0):
            watch.end()

    async def _begin(self, pipeline: str, watch: Watch) -> tuple[tuple[Loaded, Tally], ...]:
        """Both models with new tallies; none when nothing is to be watched any more."""
        key, sequence = self._progress(pipeline), watch.present.sequence
        seen = {int(field): int(rows) for field, rows in (await self._bus.redis.hgetall(key)).items()}
        older = [str(field) for field in seen if field < sequence]
        if older:
            await self._bus.redis.hdel(key, *older)
        enough = seen.get(sequence, 0) >= self.rows.get(pipeline, 0)
        previous = None if enough else await self._models.before(pipeline, sequence)
        if previous is None:
            watch.end()
            return ()
        edges = await edges_of(self._store, watch.present)
        return tuple((loaded, Tally(loaded.version, edges)) for loaded in (watch.present, previous))

    def _compare(
        self, pipeline: str, sides: tuple[tuple[Loaded, Tally], ...], kept: list[list[Delivery] | bytes]
    ) -> None:
        for item in kept:
            for loaded, tally in sides:
                if isinstance(item, bytes):
                    scored(item, loaded, self._settings.max_rows, tally)
                else:
                    counted(self._works(pipeline, loaded), item, 1.0, tally)

    def _progress(self, pipeline: str) -> str:
        return state_key(self._bus.namespace, "serving", f"watched:{pipeline}")
