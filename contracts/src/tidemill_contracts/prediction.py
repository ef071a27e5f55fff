"""Predictions and labels: the data plane, one set of streams per pipeline."""

from pydantic import Field

from tidemill_contracts.document import Document
from tidemill_contracts.names import EventId, Moment, Version
from tidemill_contracts.pipeline import Scalar, Value


class RequestedPrediction(Document):
    """Payload of ``prediction.requested``. The event's id is the prediction id; the event's time is the row's."""

    features: dict[str, Scalar] = Field(max_length=4096)
    expires_at: Moment | None = None
    """Nobody needs the answer after this: it is then ``prediction.failed`` with ``expired``, at no cost."""


class CompletedPrediction(Document):
    """Payload of ``prediction.completed``."""

    prediction_id: EventId
    prediction: Value
    """The class, or the value."""
    probabilities: tuple[float, ...] = ()
    """In the order of ``classes``."""
    classes: tuple[Scalar, ...] = ()
    model_version: Version
    dataset_version: Version


class FailedPrediction(Document):
    """Payload of ``prediction.failed``: this request was refused; others are not affected."""

    prediction_id: EventId
    error: str = Field(pattern=r"^[a-z0-9_]{1,64}$")
    """missing_feature, wrong_type, not_finite, unknown_category, no_model, expired, …"""
    field: str | None = None
    message: str = Field(max_length=1000)
    model_version: Version | None = None


class ObservedLabel(Document):
    """Payload of ``label.observed``: the truth about an earlier prediction, at any delay and in any order."""

    prediction_id: EventId
    label: Value
    observed_at: Moment | None = None
