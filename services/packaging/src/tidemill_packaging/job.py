"""What the child process is given and what it gives back; light, because the parent imports it too."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """A model to package, as plain values. Parts are verified local files."""

    folder: Path
    model: Path
    task: str
    family: str
    metric: str
    target: str
    classes: tuple[Any, ...]
    positive: Any
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    train: tuple[Path, ...]
    validation: tuple[Path, ...]
    from_ordinal: int
    since: datetime | None
    newest: int | None
    opset: int
    parity_rows: int
    golden_rows: int
    reference_rows: int
    seed: int


@dataclass(frozen=True)
class Column:
    """A column of the reference."""

    name: str
    kind: str
    rows: int
    missing: int
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    categories: dict[str, int] | None = None
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class Packed:
    """``model.onnx`` lies in the folder; this is what was found out about it."""

    label_agreement: float
    trained: float
    packaged: float
    p999: float
    maximum: float
    rows: int
    golden: tuple[tuple[dict[str, Any], Any, tuple[float, ...]], ...]
    columns: tuple[Column, ...]
    prediction: Column
    target: Column
    score: float
    error: float
    error_rows: int
    target_scale: float
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Unpackable:
    """Why it is no package."""

    step: str
    code: str
    message: str
