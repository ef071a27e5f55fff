"""The loaded models of many pipelines within a budget of memory."""

from collections import OrderedDict

from tidemill_serving.loading import Loaded
from tidemill_shared.log import logger
from tidemill_shared.telemetry import counter

log = logger(__name__)
_SESSION_BYTES = 512 * 1024
"""Of a session beside its graph."""
_GRAPH_FACTOR = 4
"""Bytes in memory for a byte of ONNX (2 to 4 measured for boosted trees): the estimate must not be too low."""


def weight(loaded: Loaded) -> int:
    """About how many bytes of memory a loaded model takes."""
    return _SESSION_BYTES + _GRAPH_FACTOR * loaded.model.size


class Shelf:
    """A present and a previous model a pipeline. What was not used for longest leaves first: previous models of idle
    pipelines, then their present ones, which are then said to rest."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._present: OrderedDict[str, Loaded] = OrderedDict()
        """The one used last at the end."""
        self._previous: dict[str, Loaded] = {}
        self._tried: dict[str, Loaded] = {}
        self._resting: set[str] = set()

    def present(self, pipeline: str) -> Loaded | None:
        """The model that answers, which is thereby used."""
        loaded = self._present.get(pipeline)
        if loaded:
            self._present.move_to_end(pipeline)
        return loaded

    def previous(self, pipeline: str) -> Loaded | None:
        """The model before it, for an instant return."""
        return self._previous.get(pipeline)

    def tried(self, pipeline: str) -> Loaded | None:
        """The challenger beside the present model."""
        return self._tried.get(pipeline)

    def try_out(self, pipeline: str, loaded: Loaded | None) -> None:
        """A challenger, or none any more. It stays while it is tried and until it has taken the present place."""
        self._tried.pop(pipeline, None)
        if loaded:
            self._tried[pipeline] = loaded
            self._make_room(pipeline)

    def resting(self, pipeline: str) -> bool:
        """Whether it has a model that is not loaded now."""
        return pipeline in self._resting

    def rest(self, pipeline: str) -> None:
        """Leave it to be loaded when it is asked for."""
        self._resting.add(pipeline)

    def sought(self, pipeline: str) -> None:
        """It was looked for, and if it still rests there is nothing that may be loaded."""
        self._resting.discard(pipeline)

    @property
    def full(self) -> bool:
        """Whether another model would push one out."""
        return self._bytes() >= self._budget

    def put(self, pipeline: str, loaded: Loaded) -> None:
        """The model that answers from now on, in one assignment: a request is answered by the one or the other."""
        before = self._present.get(pipeline)
        if before and before.manifest != loaded.manifest:
            self._previous[pipeline] = before
        self._present[pipeline] = loaded
        self._present.move_to_end(pipeline)
        self._resting.discard(pipeline)
        tried = self._tried.get(pipeline)
        if tried and tried.manifest == loaded.manifest:
            del self._tried[pipeline]
        self._make_room(pipeline)

    def put_behind(self, pipeline: str, loaded: Loaded) -> None:
        """The model before the present one, which was not at hand after a restart."""
        self._previous[pipeline] = loaded
        self._make_room(pipeline)

    def _bytes(self) -> int:
        return sum(weight(m) for kept in (self._present, self._previous, self._tried) for m in kept.values())

    def _make_room(self, busy: str) -> None:
        excess = self._bytes() - self._budget
        for kept in (self._previous, self._present):
            for pipeline in [name for name in self._present if name != busy and name in kept]:
                if excess <= 0:
                    return
                excess -= weight(kept.pop(pipeline))
                if kept is self._present:
                    self._resting.add(pipeline)
                counter("tidemill.serving.unloaded").add(1, {"pipeline": pipeline})
                log.info("model unloaded", pipeline=pipeline)
