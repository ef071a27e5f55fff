"""Golden predictions: the proof that a loaded model answers as the trained one did."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidemill_serving.domain.features import Layout, matrices
from tidemill_serving.domain.model import Model, Scalar

Expected = tuple[Scalar, Sequence[float]]
"""The answer and, for classifiers, its probabilities."""


def prove(model: Model, rows: Sequence[Mapping[str, Any]], expected: Sequence[Expected], tolerance: float) -> None:
    """Answer the golden rows.

    ``tolerance`` bounds the difference of a probability, or of a value relative to max(1, |value|). Raises ValueError
    when an answer is not the expected one.
    """
    # Golden rows may hold categories the model has never seen: how it answers those is part of the proof.
    anything = Layout(model.layout.numeric, model.layout.categorical, None)
    inputs, refusals = matrices(rows, anything)
    refusal = next((r for r in refusals if r), None)
    if refusal:
        raise ValueError(f"a golden row does not fit the signature: {refusal.message}")
    if not rows:
        raise ValueError("there is no golden row")
    answers = model.predict(inputs)
    for i, (value, probabilities) in enumerate(expected):
        if model.task == "regression":
            _same_value(i, answers.values[i], value, tolerance)
        else:
            assert answers.probabilities is not None  # noqa: S101 - a classifier gives them
            _same_class(i, model, answers.values[i], answers.probabilities[i].tolist(), value, probabilities, tolerance)


def _same_value(row: int, answer: Scalar, value: Scalar, tolerance: float) -> None:
    if not isinstance(value, (int, float)):
        raise ValueError(f"golden row {row}: the expected value is no number")
    # Written so that a NaN, which compares as false with everything, is a failure.
    if not (isinstance(answer, float) and abs(answer - value) <= tolerance * max(1.0, abs(value))):
        raise ValueError(f"golden row {row}: {answer} instead of {value}, tolerance {tolerance:.2g}")


def _same_class(
    row: int,
    model: Model,
    answer: Scalar,
    odds: Sequence[float],
    value: Scalar,
    expected: Sequence[float],
    tolerance: float,
) -> None:
    if len(expected) != len(model.classes) or len(odds) != len(model.classes):
        raise ValueError(f"golden row {row}: {len(odds)} probabilities for {len(model.classes)} classes")
    worst = float(np.abs(np.subtract(odds, expected)).max())
    if not worst <= tolerance:
        raise ValueError(f"golden row {row}: off by {worst:.2g}, tolerance {tolerance:.2g}")
    if answer != value and not model.undecided(expected, tolerance):
        raise ValueError(f"golden row {row}: {answer!r} instead of {value!r}")
