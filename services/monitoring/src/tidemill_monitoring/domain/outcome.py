"""Rows as the judgement needs them: the answer, the truth, the error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill_monitoring.domain.score import Outcome

Cell = str | bool | int | float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one row."""

    prediction: Cell
    probabilities: tuple[float, ...]
    classes: tuple[Cell, ...]
    version: str
    dataset: str


@dataclass(slots=True)
class AnsweredRow:
    """A row whose features and answer are known. ``time`` is its event time in seconds."""

    id: str
    features: dict[str, Cell] = field(repr=False)
    time: float
    answer: Answer
    number: int = 0
    """Of the answered rows, once the monitor has taken it."""
    place: str = ""
    """The window it belongs to; "" for none."""


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A row with its truth."""

    row: AnsweredRow
    label: Cell
    at: float = 0.0
    """When the label was observed."""


def same_key(value: Cell) -> str:
    """A class label as text, such that 1, 1.0 and true agree: producers and trainers do not spell alike."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return str(int(value.lower() == "true"))
    return str(value)


def class_index(classes: Sequence[Cell], value: Cell) -> int:
    """The position of a class, -1 for one that is not among them."""
    key = same_key(value)
    return next((i for i, known in enumerate(classes) if same_key(known) == key), -1)


def positive_index(classes: Sequence[Cell], positive: Cell) -> int:
    """The positive class's position: the one named, else the last."""
    found = class_index(classes, positive) if positive is not None else -1
    return found if found >= 0 else max(len(classes) - 1, 0)


def is_number(value: Any) -> bool:
    """Whether a label can be the truth of a regression."""
    return isinstance(value, int | float) and math.isfinite(value)


def outcome_of(row: LabelledRow, *, classification: bool) -> Outcome:
    """Class indices, or values. A model that names no classes is compared label with label."""
    answer = row.row.answer
    if not classification:
        return Outcome(float(row.label or 0.0), float(answer.prediction or 0.0))
    classes = answer.classes or (answer.prediction,)
    truth, predicted = class_index(classes, row.label), class_index(classes, answer.prediction)
    return Outcome(float(truth), float(predicted), answer.probabilities)


def error_of(outcome: Outcome, *, classification: bool, scale: float) -> float:
    """0 or 1 for classes; for values the absolute error over twice the target's standard deviation, at most 1.

    The bound is what ADWIN's guarantee asks for.
    """
    if classification:
        return float(outcome.truth != outcome.predicted)
    return min(1.0, abs(outcome.truth - outcome.predicted) / (2 * scale or 1.0))
