"""How a pipeline wants to be judged."""

from dataclasses import dataclass

from tidemill_monitoring.domain.outcome import Cell


@dataclass(frozen=True, slots=True)
class Policy:
    """A pipeline's drift policy and what it predicts."""

    classification: bool
    metric: str
    positive: Cell
    window_rows: int
    min_rows: int
    false_alarm_rate: float
    consecutive: int
    error_delta: float
    recovered_share: float
    among: int | None = None
    window_seconds: float | None = None
    lateness_seconds: float = 3_600.0
    references: tuple[str, ...] = ("training",)
    season_seconds: float | None = None
    label_seconds: float = 7 * 86_400.0

    @property
    def season(self) -> int | None:
        """Windows in a season."""
        if self.season_seconds is None or self.window_seconds is None:
            return None
        return round(self.season_seconds / self.window_seconds)

    @property
    def stride(self) -> int:
        """Labelled rows between two looks at the score."""
        return max(1, self.window_rows // 10)
