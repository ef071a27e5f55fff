"""After a promotion: what the new champion does beside the one before it, on the same requests.

Nobody waits for it: batches that were answered are kept, some of them, and scored once more by both in a thread; what
they say is counted and forgotten.
"""

import asyncio

from redis.exceptions import RedisError

from tidemill_contracts.events import RolloutObserved
from tidemill_contracts.rollout import ObservedRollout
from tidemill_serving.bins import edges_of
from tidemill_serving.loading import Loaded
from tidemill_serving.shelf import Shelf
from tidemill_serving.tally import Tally
from tidemill_serving.trying import Works, counted
from tidemill_shared.delivery import Delivery
from tidemill_shared.errors import Retryable, TidemillError
from tidemill_shared.log import logger
from tidemill_shared.service import Service

log = logger(__name__)
_ROWS_KEPT = 4_096
"""Requests kept between two looks; of what comes beyond them nothing is compared."""


class Watch:
    """A promotion whose champion is still watched."""

    def __init__(self, present: Loaded, previous: Loaded, rows: int) -> None:
        self.present = present
        self.previous = previous
        self.rows = rows
        self._kept: list[list[Delivery]] = []
        self._size = 0
        self.tallies: tuple[Tally, Tally] | None = None
        """The present model's and the previous one's."""

    @property
    def over(self) -> bool:
        """Whether enough was seen."""
        return self.tallies is not None and self.tallies[0].rows >= self.rows

    def keep(self, batch: list[Delivery]) -> None:
        """For the next look, if there is room."""
        if self._size < _ROWS_KEPT and not self.over:
            self._kept.append(batch)
            self._size += len(batch)

    def taken(self) -> list[list[Delivery]]:
        """What was kept, which is thereby forgotten."""
        kept, self._kept, self._size = self._kept, [], 0
        return kept

    def compare(self, works: Works, pipeline: str, batches: list[list[Delivery]], tallies: tuple[Tally, Tally]) -> None:
        """Score batches by both models."""
        for batch in batches:
            for loaded, tally in zip((self.present, self.previous), tallies, strict=True):
                counted(works(pipeline, loaded), batch, 1.0, tally)


class Watches:
    """Of the pipelines that ask for it."""

    def __init__(self, service: Service, shelf: Shelf, works: Works, run: str, every_seconds: float) -> None:
        self._bus = service.bus
        self._store = service.store
        self._pipelines = service.pipelines
        self._shelf = shelf
        self._works = works
        self._run = run
        self._every_seconds = every_seconds
        self._rows: dict[str, int] = {}
        """To be watched, of the pipelines that ask for it."""
        self._watches: dict[str, Watch] = {}

    async def start(self) -> None:
        """Learn who asks for it, now and whenever a specification changes."""
        for pipeline in self._pipelines.names():
            await self._on_declared(pipeline)
        self._pipelines.on_change(self._on_declared)

    async def _on_declared(self, pipeline: str) -> None:
        spec = await self._pipelines.spec(pipeline)
        self._rows.pop(pipeline, None)
        if spec and spec.rollout.watch_rows:
            self._rows[pipeline] = spec.rollout.watch_rows

    def note(self, pipeline: str, champion: Loaded, batch: list[Delivery]) -> None:
        """A batch that the champion answers."""
        rows = self._rows.get(pipeline)
        if rows is None:
            return
        watch = self._watches.get(pipeline)
        if watch is None or watch.present.sequence != champion.sequence:
            previous = self._shelf.previous(pipeline)
            if previous is None:  # after a restart only the present one is loaded
                return
            watch = self._watches[pipeline] = Watch(champion, previous, rows)
        watch.keep(batch)

    async def observe(self) -> None:
        """Compare and tell, now and then."""
        while True:
            await asyncio.sleep(self._every_seconds)
            for pipeline, watch in list(self._watches.items()):
                try:
                    await self._look(pipeline, watch)
                except (Retryable, TidemillError, RedisError) as error:
                    log.warning("cannot watch a promotion", pipeline=pipeline, why=str(error))

    async def _look(self, pipeline: str, watch: Watch) -> None:
        if watch.tallies is None:
            edges = await edges_of(self._store, watch.present)
            watch.tallies = Tally(watch.present.version, edges), Tally(watch.previous.version, edges)
        batches, (present, previous) = watch.taken(), watch.tallies
        if not batches:
            return
        await asyncio.to_thread(watch.compare, self._works, pipeline, batches, watch.tallies)
        observed = ObservedRollout(
            promotion=watch.present.sequence,
            run=self._run,
            champion=previous.observation(),
            challenger=present.observation(),
        )
        subject = f"{pipeline}/{present.version}"
        await self._bus.publish(RolloutObserved.root(observed, subject=subject, source="urn:tidemill:serving"))
