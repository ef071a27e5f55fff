"""Datasets: the documents ingestion writes and the payloads it publishes."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.document import Document
from tidemill_contracts.names import EventId, Name, Version
from tidemill_contracts.pipeline import Kind, Scalar, Task

Split = Literal["train", "validation", "test"]
Format = Literal["csv", "parquet", "jsonl"]
Origin = Literal["upload", "feedback"]


class Reason(Document):
    """Why something was refused: a stable code for programs, a sentence for people."""

    code: str = Field(pattern=r"^[a-z0-9_]{1,64}$")
    message: str = Field(max_length=1000)
    column: str | None = None
    count: int | None = None


class ArrivedData(Document):
    """Payload of ``data.arrived``: a file of rows waits in the object store."""

    uri: str = Field(pattern=r"^s3://[^/]+/.+$", max_length=1200)
    """``s3://<bucket>/<key>``; only the system's own bucket is read."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    format: Format | None = None
    """None: told from the name (``.csv``, ``.csv.gz``, ``.parquet``, ``.jsonl``, ``.jsonl.gz``)."""
    origin: Origin = "upload"
    rows: int | None = Field(default=None, ge=0)
    note: str = Field(default="", max_length=500)


class Column(Document):
    """A column of a pipeline's fixed schema."""

    name: str
    kind: Kind
    role: Literal["feature", "target"]


class Part(Document):
    """Rows of one split that arrived together. Later versions refer to the same part, so appending costs only
    what is new."""

    split: Split
    file: ArtifactRef
    rows: int = Field(ge=0)
    first_ordinal: int = Field(ge=0)
    last_ordinal: int = Field(ge=0)
    """Ordinals number a pipeline's accepted rows in order of arrival, over all splits."""
    time_min: datetime | None = None
    time_max: datetime | None = None
    origin: Origin = "upload"


class Histogram(Document):
    """Counts between fixed edges: ``counts[0]`` lies below ``edges[0]``, ``counts[-1]`` at or above the last."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class ColumnProfile(Document):
    """What a column looks like."""

    name: str
    kind: Kind
    rows: int
    missing: int
    distinct: int | None = None
    mean: float | None = None
    std: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    quantiles: dict[str, float] = Field(default_factory=dict)
    """Keys "0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99"."""
    histogram: Histogram | None = None
    top: dict[str, int] = Field(default_factory=dict)
    """The most frequent categories with their counts."""
    target_association: float | None = None
    """Pearson correlation (numeric) or correlation ratio / Cramér's V (categorical) with the target."""


class Profile(Document):
    """The exploratory summary of a dataset version's rows."""

    rows: int
    columns: tuple[ColumnProfile, ...]
    target: ColumnProfile


class DatasetManifest(Document):
    """A dataset version. Readers trust this and verify each part's digest before parsing it."""

    kind: Literal["dataset"] = "dataset"
    pipeline: Name
    version: Version
    sequence: int = Field(ge=1)
    task: Task
    columns: tuple[Column, ...]
    classes: tuple[Scalar, ...] = ()
    """Sorted class labels of a classification target."""
    parts: tuple[Part, ...]
    from_ordinal: int = 0
    """Rows below this ordinal have left a sliding window; readers drop them."""
    next_ordinal: int
    rows: dict[Split, int]
    new_rows: int
    quarantined: dict[str, int] = Field(default_factory=dict)
    """New rows refused, by reason."""
    coerced: dict[str, int] = Field(default_factory=dict)
    """Cells changed on the way in, by kind of change."""
    dropped: dict[str, str] = Field(default_factory=dict)
    """Columns of the new file that an inferred schema left out, with the reason."""
    quarantine: ArtifactRef | None = None
    profile: ArtifactRef | None = None
    source: ArtifactRef
    """The raw file the new rows came from."""
    spec: ArtifactRef
    parent: ArtifactRef | None = None
    """The manifest of the version before."""
    causes: tuple[EventId, ...]
    code_version: str


class PreparedDataset(Document):
    """Payload of ``dataset.prepared``."""

    pipeline: Name
    version: Version
    sequence: int
    manifest: ArtifactRef
    spec: ArtifactRef
    rows: dict[Split, int]
    new_rows: int
    quarantined: int
    origin: Origin
    time_min: datetime | None = None
    time_max: datetime | None = None
    """Of the new rows."""


class RejectedDataset(Document):
    """Payload of ``dataset.rejected``: nothing of this file is used."""

    pipeline: Name
    uri: str
    sha256: str
    origin: Origin
    reasons: tuple[Reason, ...] = Field(min_length=1)
    quarantine: ArtifactRef | None = None


class Outcome(Document):
    """What became of one accepted new-data event."""

    event_id: EventId
    pipeline: Name
    prepared: PreparedDataset | None = None
    rejected: RejectedDataset | None = None
