"""What a package says about rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Answers:
    """Of [n] rows: class indexes [n] and probabilities [n, classes], or values [n] (all float64 but the indexes)."""

    labels: Array | None = None
    probabilities: Array | None = None
    values: Array | None = None

    @property
    def numbers(self) -> Array:
        """Everything numeric in them."""
        found = self.values if self.probabilities is None else self.probabilities
        assert found is not None  # noqa: S101 - one of the two is there
        return found

    def __len__(self) -> int:
        return len(self.numbers)


def aligned(answers: Answers, own: Sequence[Any], common: Sequence[Any]) -> Answers:
    """A classifier's answers in terms of the classes of the rows, which may have gained some since it was trained."""
    if tuple(own) == tuple(common) or answers.labels is None or answers.probabilities is None:
        return answers
    places = np.array([common.index(c) if c in common else -1 for c in own])
    p = np.zeros((len(answers), len(common)))
    p[:, places[places >= 0]] = answers.probabilities[:, places >= 0]
    return Answers(places[answers.labels], p)
