"""Batch scoring: a file of any size in the bucket, answered by Parquet parts."""

from typing import Literal

from pydantic import Field

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.dataset import Reason
from tidemill_contracts.document import Document
from tidemill_contracts.names import EventId, Name, Version
from tidemill_contracts.pipeline import ColumnName, Scalar


class RequestedBatch(Document):
    """Payload of ``batch.requested``. The event's id is the batch's id."""

    input: ArtifactRef
    """``.parquet``, ``.csv`` or ``.csv.gz``, with a column for each feature; others are ignored."""
    row_id: ColumnName | None = None
    """The column that identifies a row in the results; None numbers the rows from 0."""


class BatchProgress(Document):
    """Payload of ``batch.progressed``: so much is finished, and would not be done again after a crash."""

    batch: EventId
    parts: int
    rows: int
    failed: int
    total: int | None = None
    """Rows of the input; None where that is not known beforehand (CSV)."""


class BatchPlan(Document):
    """What a batch is scored with, fixed when it is first taken up."""

    batch: EventId
    model_version: Version
    dataset_version: Version
    promotion: int
    """The model's number in the registry, where its package and the proof of it are named under a seal."""
    part_rows: int


class BatchPart(Document):
    """A finished part. Its columns are ``row``, ``prediction``, ``probabilities`` (classes only), ``model_version``,
    ``error`` and ``field``; a row has a prediction or an error."""

    index: int
    model_version: Version
    file: ArtifactRef
    rows: int
    failed: int
    errors: dict[str, int] = Field(default_factory=dict)
    """Failed rows by error."""


class BatchManifest(Document):
    """All results of a batch."""

    kind: Literal["batch"] = "batch"
    pipeline: Name
    batch: EventId
    input: ArtifactRef
    package: ArtifactRef
    model_version: Version
    dataset_version: Version
    classes: tuple[Scalar, ...] = ()
    """The order of ``probabilities``."""
    parts: tuple[BatchPart, ...]
    rows: int
    failed: int
    errors: dict[str, int]
    """Failed rows by error."""


class CompletedBatch(Document):
    """Payload of ``batch.completed``."""

    batch: EventId
    input: ArtifactRef
    manifest: ArtifactRef
    """It names the parts with their digests."""
    model_version: Version
    dataset_version: Version
    parts: int
    rows: int
    failed: int
    seconds: float
    """Since this delivery of the request; after a crash that is less than the whole."""


class FailedBatch(Document):
    """Payload of ``batch.failed``: the file as a whole cannot be scored."""

    batch: EventId
    reasons: tuple[Reason, ...] = Field(min_length=1)
