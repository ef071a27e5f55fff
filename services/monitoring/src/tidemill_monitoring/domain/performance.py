"""Realized performance against the best level ever proven, and how long a recovery took."""

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tidemill_monitoring.domain.findings import Degraded, Recovered, Span
from tidemill_monitoring.domain.score import LOWER_IS_BETTER, Outcome, Score, score

_LUCK = 0.1
"""How often a score as bad as the bound may look recovered: looser than what raises an alarm, since each look may end
it, and what waits for the end is a training that nobody needs."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is measured, and the bounds of the judgement (see the pipeline's drift policy)."""

    metric: str
    classes: int
    positive: int
    window_rows: int
    min_rows: int
    recovered_share: float
    rate: float
    """Error rate of the one-sided confidence bounds."""

    def least(self, baseline: float) -> float:
        """The score that counts as recovered."""
        return baseline / self.recovered_share if self.metric in LOWER_IS_BETTER else baseline * self.recovered_share

    def reaches(self, value: float, level: float) -> bool:
        """Whether ``value`` is at least as good as ``level``."""
        return value <= level if self.metric in LOWER_IS_BETTER else value >= level


@dataclass(slots=True)
class Episode:
    """A fall that has not been recovered from: what is needed to say how long it took."""

    version: str
    """The champion of the time."""
    alarm_row: int
    began_row: int | None
    wall: float
    retrained_row: int | None = None
    """The first labelled row that a newer model predicted."""
    degraded: list[str] = field(default_factory=list)
    """Versions for which degradation was published, at most once each."""


@dataclass(slots=True)
class Performance:
    """The champion's latest labelled rows, the baseline, and the open episode.

    The baseline is a level that was proven: the best lower confidence bound of any window or champion's validation.
    A plain maximum of noisy scores would creep upwards until every model looks bad. It never moves down, so that a
    degraded model cannot become the standard.
    """

    recent: deque[Outcome]
    """At most ``window_rows``; kept beside the rest of the state, because it alone grows with the window."""
    baseline: float | None = None
    episode: Episode | None = None
    latest: float | None = None
    """The last score."""

    def anchor(self, found: Score, goal: Goal) -> None:
        """Raise the baseline to what ``found`` proves."""
        proven = found.worse_bound(goal.metric, goal.rate)
        if self.baseline is None or not goal.reaches(self.baseline, proven):
            self.baseline = proven

    def alarmed(self, version: str, row: int, began_row: int | None, wall: float) -> None:
        """An episode begins, unless one is open."""
        if self.episode is None:
            self.episode = Episode(version, row, began_row, wall)
        elif self.episode.began_row is None and began_row is not None and began_row <= self.episode.alarm_row:
            self.episode.began_row = began_row

    def calmed(self) -> None:
        """The alarm is over without a new model; an episode in which the score never fell is over with it."""
        if self.episode and not self.episode.degraded and self.episode.retrained_row is None:
            self.episode = None

    def take(self, outcome: Outcome, version: str, row: int) -> None:
        """Add the champion's labelled row number ``row``."""
        self.recent.append(outcome)
        episode = self.episode
        if episode and episode.retrained_row is None and version != episode.version:
            episode.retrained_row = row

    def measure(self, goal: Goal) -> Score | None:
        """The primary metric over the latest rows; None with fewer than ``min_rows`` or where it is undefined."""
        if len(self.recent) < goal.min_rows:
            return None
        return score(goal.metric, list(self.recent), classes=goal.classes, positive=goal.positive)

    def judge(
        self, goal: Goal, version: str, row: int, newest: float, span: Span, wall: float
    ) -> Degraded | Recovered | None:
        """Compare the latest rows with the baseline."""
        found = self.measure(goal)
        if found is None:
            return None
        self.latest = found.value
        if len(self.recent) >= goal.window_rows:
            self.anchor(found, goal)
        # A metric that may be negative has no meaningful share of itself below zero.
        if self.baseline is None or self.baseline <= 0:
            return None
        least = goal.least(self.baseline)
        if self.episode and goal.reaches(self._shown(found, goal), least):
            return self._recovered(found.value, version, row, wall)
        if not goal.reaches(found.better_bound(goal.metric, goal.rate), least):
            self.alarmed(version, row, None, wall)
            assert self.episode is not None  # noqa: S101 - alarmed() opened one
            if version not in self.episode.degraded:
                self.episode.degraded.append(version)
                return Degraded(version, found.value, self.baseline, span, row, newest)
        return None

    def _shown(self, found: Score, goal: Goal) -> float:
        """What speaks for a recovery. Of a fall that nobody mended a lucky window proves nothing."""
        mended = self.episode is not None and self.episode.retrained_row is not None
        return found.value if mended else found.worse_bound(goal.metric, _LUCK)

    def _recovered(self, value: float, version: str, row: int, wall: float) -> Recovered | None:
        episode = self.episode
        assert episode is not None and self.baseline is not None  # noqa: S101 - the caller has looked
        retrained = episode.retrained_row
        if retrained is None and not episode.degraded:
            return None  # the score never fell and no new model is in: the alarm stands
        self.episode = None
        return Recovered(
            version,
            value,
            self.baseline,
            None if episode.began_row is None else episode.alarm_row - episode.began_row,
            None if retrained is None else retrained - episode.alarm_row,
            None if retrained is None else row - retrained,
            max(0.0, wall - episode.wall),
        )

    def dump(self) -> dict[str, Any]:
        """Everything but the latest rows, as JSON values."""
        episode = asdict(self.episode) if self.episode else None
        return {"baseline": self.baseline, "episode": episode, "latest": self.latest}

    @classmethod
    def load(cls, dumped: dict[str, Any], recent: Sequence[Outcome], window_rows: int) -> "Performance":
        """What ``dump`` gave, back, with the latest rows."""
        episode = Episode(**dumped["episode"]) if dumped["episode"] else None
        return cls(deque(recent, maxlen=window_rows), dumped["baseline"], episode, dumped["latest"])
