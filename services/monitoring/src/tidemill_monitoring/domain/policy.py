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

    @property
    def stride(self) -> int:
        """Labelled rows between two looks at the score."""
        return max(1, self.window_rows // 10)
