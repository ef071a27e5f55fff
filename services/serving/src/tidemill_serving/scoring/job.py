"""What the child of a batch is told, and what it says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["parquet", "csv", "csv.gz", "arrow"]
CHUNK_ROWS = 8_192
"""Rows of one model call, and of one row group of the results."""


@dataclass(frozen=True)
class Job:
    """``folder`` takes the parts, from ``first_part`` on; each has ``part_rows`` rows but the last."""

    folder: Path
    input: Path
    format: Format
    row_id: str | None
    onnx: Path
    signature: Path
    model_version: str
    part_rows: int
    first_part: int
    threads: int


@dataclass(frozen=True)
class TableJob:
    """A large table: all of its answers go into ``output``."""

    input: Path
    output: Path
    onnx: Path
    signature: Path
    model_version: str
    most_rows: int
    threads: int


@dataclass(frozen=True)
class Answered:
    """The answers lie in their file."""

    rows: int
    errors: dict[str, int]


@dataclass(frozen=True)
class Finished:
    """A part lies in its file."""

    index: int
    model_version: str
    path: Path
    rows: int
    errors: dict[str, int]
    total: int | None


@dataclass(frozen=True)
class Unreadable:
    """Why the file as a whole cannot be scored."""

    code: str
    message: str
