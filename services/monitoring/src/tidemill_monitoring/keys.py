"""Names of the monitor's own Redis keys, all in the slot of the pipeline's streams."""

from dataclasses import dataclass

from tidemill_contracts.streams import state_key


@dataclass(frozen=True)
class Keys:
    """The keys of one pipeline."""

    namespace: str
    pipeline: str

    def _key(self, name: str) -> str:
        return state_key(self.namespace, "monitoring", name, self.pipeline)

    @property
    def version(self) -> str:
        """String: changes with every step; the guard of all the others."""
        return self._key("version")

    @property
    def state(self) -> str:
        """String: the monitor's state, JSON."""
        return self._key("state")

    @property
    def recent(self) -> str:
        """List: the champion's latest outcomes."""
        return self._key("recent")

    @property
    def open(self) -> str:
        """Hash: open rows by prediction id."""
        return self._key("open")

    @property
    def order(self) -> str:
        """Sorted set: ids of open rows by time of arrival."""
        return self._key("order")

    def done(self, turn: int, shard: int) -> str:
        """Set of integers: digests of the ids of finished rows."""
        return self._key(f"done-{turn}-{shard}")

    @property
    def former_done(self) -> str:
        """Sorted set: ids of finished rows, as an earlier release kept them."""
        return self._key("done")

    @property
    def done_mark(self) -> str:
        """String: which generation of finished rows is the present one, and how many are in it."""
        return self._key("done-mark")

    @property
    def alert(self) -> str:
        """String: 1 while labelled rows may be awaited."""
        return self._key("alert")

    @property
    def awaited(self) -> str:
        """Hash: outcomes of windows that wait for labels, by place and prediction id."""
        return self._key("awaited")

    @property
    def history(self) -> str:
        """Hash: closed windows that later ones are compared with."""
        return self._key("history")

    @property
    def held(self) -> str:
        """String: which rows must not be sent back, JSON."""
        return self._key("held")

    @property
    def feedback(self) -> str:
        """List: labelled rows to send back."""
        return self._key("feedback")

    @property
    def log(self) -> str:
        """List: answers to log."""
        return self._key("log")
