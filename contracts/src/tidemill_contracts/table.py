"""Large tables: an Arrow object in the bucket, answered by another one."""

from pydantic import Field

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.dataset import Reason
from tidemill_contracts.document import Document
from tidemill_contracts.names import EventId, Moment, Version
from tidemill_contracts.pipeline import Scalar
from tidemill_contracts.prediction import CompletedPredictions, RequestedPredictions


class RequestedTable(Document):
    """Payload of ``table.requested``. The event's id is the table's id."""

    table: ArtifactRef
    """Arrow IPC, file or stream, below ``tables/<pipeline>/inputs/``: a text column ``prediction_id`` and a column for
    each feature; others are ignored."""
    expires_at: Moment | None = None
    """Nobody needs the answer after this."""


class CompletedTable(Document):
    """Payload of ``table.completed``: every row is answered or refused in ``result``."""

    table_id: EventId
    table: ArtifactRef
    result: ArtifactRef
    """Arrow IPC file, in the order of the request: ``prediction_id``, ``prediction``, ``probabilities`` (classes only),
    ``model_version``, ``error``, ``field``; a row has a prediction or an error."""
    rows: int
    refused: int
    errors: dict[str, int] = Field(default_factory=dict)
    """Refused rows by error, as in ``prediction.failed``."""
    classes: tuple[Scalar, ...] = ()
    """In the order of ``probabilities``."""
    model_version: Version
    dataset_version: Version


class AnsweredRows(Document):
    """Payload of ``rows.answered``: a piece of a large table with its answers, for the monitor."""

    requested: RequestedPredictions
    answered: CompletedPredictions


class FailedTable(Document):
    """Payload of ``table.failed``: no row of the table could be read."""

    table_id: EventId
    reasons: tuple[Reason, ...] = Field(min_length=1)
    """``checksum``, ``missing_object``, ``elsewhere``, ``too_large``, ``unreadable``, ``missing_column``,
    ``invalid_ids``, ``no_model``, ``expired``, ``id_reused``."""
