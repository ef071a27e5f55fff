"""What the child process is given and what it gives back; light, because the parent imports it too."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from tidemill_packaging.domain.column import Column

Step = Literal["load", "convert", "parity", "golden", "reference", "sign", "replay"]


@dataclass(frozen=True)
class Job:
    """A model to package, as plain values. Parts are verified local files, oldest first."""

    folder: Path
    """Where ``model.onnx`` is written."""
    model: Path
    task: str
    metric: str
    target: str
    classes: tuple[Any, ...]
    positive: Any
    threshold: float | None
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    train: tuple[Path, ...]
    validation: tuple[Path, ...]
    test: tuple[Path, ...]
    pooled: bool
    """Whether the validation rows were learned from: then the test rows are those that the model has not seen."""
    from_ordinal: int
    since: datetime | None
    newest: int | None
    opset: int
    parity_rows: int
    golden_rows: int
    reference_rows: int
    seed: int

    @property
    def classify(self) -> bool:
        """Whether the answers are classes."""
        return self.task == "classification"

    @property
    def positive_index(self) -> int:
        """Of the positive class in ``classes``; the last one where none is named."""
        return self.classes.index(self.positive) if self.positive in self.classes else max(0, len(self.classes) - 1)


@dataclass(frozen=True)
class Packed:
    """``model.onnx`` lies in the folder; this is what was found out about it."""

    rows: int
    label_agreement: float
    trained: float
    packaged: float
    p999: float
    maximum: float
    tolerance: float
    golden: tuple[tuple[dict[str, Any], Any, tuple[float, ...]], ...]
    """Features, answer and probabilities of each golden prediction."""
    reference_rows: int
    columns: tuple[Column, ...]
    validation: tuple[Column, ...]
    prediction: Column
    target: Column
    target_scale: float
    """Standard deviation of a regression's target, else 1."""
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    """Name, Open Inference Protocol type, shape with -1 for the rows."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Unpackable:
    """Why it is no package."""

    step: Step
    code: str
    message: str
