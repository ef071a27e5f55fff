"""One line of the prediction log."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """One line of the log; ``time`` is the row's event time in seconds."""

    prediction_id: str
    time: float
    model_version: str
    dataset_version: str
    features: str
    prediction: str
    probabilities: tuple[float, ...]
