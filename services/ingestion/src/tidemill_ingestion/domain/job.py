"""What a preparation is given and what it returns: plain values that travel between processes."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

Kind = Literal["numeric", "categorical"]
Split = Literal["train", "validation", "test"]
Format = Literal["csv", "parquet", "jsonl"]
Task = Literal["classification", "regression"]
Label = str | bool | int | float | None
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

ROW = "tidemill_row"
TIME = "tidemill_time"
ORDINAL = "tidemill_ordinal"
PREDICTION = "tidemill_prediction_id"
REASON = "tidemill_reason"
NUMBER = "tidemill_number"
RESERVED = "tidemill_"


@dataclass(frozen=True)
class Feature:
    """A column of the schema and its kind."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Limits:
    """Bounds against files that would exhaust the machine."""

    unpacked_bytes: int = 4 * 1024**3
    unpacked_ratio: float = 200.0
    profile_rows: int = 100_000
    rows: int = 50_000_000
    columns: int = 4096
    field_bytes: int = 1024**2


@dataclass(frozen=True)
class Policy:
    """What the pipeline's specification says about its rows."""

    task: Task
    target: str
    features: tuple[Feature, ...] | None = None
    positive: Label = None
    exclude: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    time: str | None = None
    train: float = 0.7
    validation: float = 0.15
    window_rows: int | None = None
    """None keeps every row."""
    min_rows: int = 100
    max_missing: float = 0.95


@dataclass(frozen=True)
class EarlierPart:
    """Rows of an earlier version. ``path`` is a local copy, present only where the job needs to read it."""

    split: Split
    rows: int
    first_ordinal: int
    last_ordinal: int
    path: Path | None = None


@dataclass(frozen=True)
class Earlier:
    """What earlier versions of the dataset fixed; the default is that there are none."""

    features: tuple[Feature, ...] = ()
    classes: tuple[Label, ...] = ()
    parts: tuple[EarlierPart, ...] = ()
    from_ordinal: int = 0
    next_ordinal: int = 0
    index: Path | None = None
    """A Parquet file with the identities and ordinals of all live rows; None: read them from the parts."""
    edges: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Histogram edges by column."""


@dataclass(frozen=True)
class Job:
    """One file of new rows to be made into parts under ``folder``."""

    file: Path
    format: Format
    gzip_expected: bool
    feedback: bool
    arrived: datetime
    policy: Policy
    folder: Path
    earlier: Earlier = Earlier()
    limits: Limits = Limits()


@dataclass(frozen=True)
class WrittenPart:
    """A Parquet file of new rows of one split."""

    split: Split
    path: Path
    sha256: str
    rows: int
    first_ordinal: int
    last_ordinal: int
    time_min: datetime
    time_max: datetime


@dataclass(frozen=True)
class Prepared:
    """A new dataset version, on local disk."""

    features: tuple[Feature, ...]
    classes: tuple[Label, ...]
    dropped: dict[str, str]
    parts: tuple[WrittenPart, ...]
    kept: tuple[int, ...]
    """Positions of the earlier parts that still hold live rows."""
    from_ordinal: int
    next_ordinal: int
    rows: dict[Split, int]
    new_rows: int
    quarantined: dict[str, int]
    coerced: dict[str, int]
    quarantine: Path | None
    profile: dict[str, Any]
    index: Path


@dataclass(frozen=True)
class Refusal:
    """One reason why a file was refused."""

    code: str
    message: str
    column: str | None = None
    count: int | None = None


@dataclass(frozen=True)
class RefusedFile:
    """A file of which nothing is used."""

    reasons: tuple[Refusal, ...]
    quarantine: Path | None = None


class Refused(Exception):
    """Ends a preparation: the file cannot become part of the dataset."""

    def __init__(self, code: str, message: str, *, column: str | None = None, count: int | None = None) -> None:
        super().__init__(message)
        self.refusal = Refusal(code, message, column, count)
