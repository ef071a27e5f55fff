"""Predictions and labels: the data plane, one set of streams per pipeline."""

from typing import Self

from pydantic import Field, model_validator

from tidemill_contracts.document import Document
from tidemill_contracts.names import EventId, Moment, Version
from tidemill_contracts.pipeline import Scalar, Value


class RequestedPrediction(Document):
    """Payload of ``prediction.requested``. The event's id is the prediction id; the event's time is the row's."""

    features: dict[str, Scalar] = Field(max_length=4096)
    expires_at: Moment | None = None
    """Nobody needs the answer after this: it is then ``prediction.failed`` with ``expired``, at no cost."""


class RequestedPredictions(Document):
    """Payload of ``predictions.requested``: many rows as columns. Each row keeps a prediction id of its own."""

    ids: tuple[EventId, ...] = Field(min_length=1, max_length=512)
    """Prediction ids, one a row, no two alike."""
    columns: dict[str, tuple[Scalar, ...]] = Field(max_length=4096)
    """By feature, one value a row, in the order of ``ids``."""
    expires_at: Moment | None = None
    """As for a single row."""

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("ids: a prediction id appears twice")
        short = next((name for name, cells in self.columns.items() if len(cells) != len(self.ids)), None)
        if short is not None:
            raise ValueError(f"columns: {short!r} has {len(self.columns[short])} values for {len(self.ids)} ids")
        return self

    def rows(self) -> list[tuple[str, RequestedPrediction]]:
        """Prediction id and payload of each row as a request of its own."""
        names = tuple(self.columns)
        cells = zip(*self.columns.values(), strict=True) if names else ((),) * len(self.ids)
        features = (dict(zip(names, row, strict=True)) for row in cells)
        # The values were checked with the table.
        return [
            (id_, RequestedPrediction.model_construct(features=row, expires_at=self.expires_at))
            for id_, row in zip(self.ids, features, strict=True)
        ]


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


class RefusedRows(Document):
    """Rows of a table that could not be answered, all for one reason."""

    prediction_ids: tuple[EventId, ...] = Field(min_length=1)
    error: str = Field(pattern=r"^[a-z0-9_]{1,64}$")
    """As in ``prediction.failed``, and ``answer_too_large``."""
    field: str | None = None
    message: str = Field(max_length=1000)


class CompletedPredictions(Document):
    """Payload of ``predictions.completed``: the answer to one table. Each of its rows is answered or refused."""

    prediction_ids: tuple[EventId, ...] = ()
    """Of the rows that were answered, in the order of the request."""
    predictions: tuple[Value, ...] = ()
    probabilities: tuple[tuple[float, ...], ...] = ()
    """One a prediction, each in the order of ``classes``; empty for regression."""
    classes: tuple[Scalar, ...] = ()
    refused: tuple[RefusedRows, ...] = ()
    model_version: Version | None = None
    """None: no model has been promoted yet, and every row is refused."""
    dataset_version: Version | None = None

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        n = len(self.prediction_ids)
        if len(self.predictions) != n or len(self.probabilities) not in (0, n):
            raise ValueError(
                "predictions: one for each of prediction_ids is expected, and as many probabilities or none"
            )
        if n and (self.model_version is None or self.dataset_version is None):
            raise ValueError("model_version, dataset_version: a prediction names what made it")
        return self

    def completed(self) -> list[CompletedPrediction]:
        """The answers, each as the payload of an event of its own."""
        if not self.prediction_ids or self.model_version is None or self.dataset_version is None:
            return []
        odds = self.probabilities or ((),) * len(self.prediction_ids)
        return [
            CompletedPrediction.model_construct(
                prediction_id=id_,
                prediction=value,
                probabilities=row,
                classes=self.classes,
                model_version=self.model_version,
                dataset_version=self.dataset_version,
            )
            for id_, value, row in zip(self.prediction_ids, self.predictions, odds, strict=True)
        ]

    def failed(self) -> list[FailedPrediction]:
        """The refusals, each as the payload of an event of its own."""
        return [
            FailedPrediction(
                prediction_id=id_,
                error=group.error,
                field=group.field,
                message=group.message,
                model_version=self.model_version,
            )
            for group in self.refused
            for id_ in group.prediction_ids
        ]


class ObservedLabel(Document):
    """Payload of ``label.observed``: the truth about an earlier prediction, at any delay and in any order."""

    prediction_id: EventId
    label: Value
    observed_at: Moment | None = None


class ShadowedPrediction(Document):
    """Payload of ``prediction.shadowed``: what a challenger would have answered."""

    prediction_id: EventId
    prediction: Scalar = None
    """None: it could not answer, for the reason in ``error``."""
    error: str | None = Field(default=None, max_length=200)
    model_version: Version
