"""What each feature contributed to one prediction: interventional Shapley values over a background of rows.

A feature that is not in a coalition has the value of a background row (Lundberg & Lee 2017, the interventional value
function). Up to ``EXACT`` features every coalition is evaluated, and the values are exact for that background. Beyond,
orders of the features are sampled in antithetic pairs (Štrumbelj & Kononenko 2014; Mitchell et al. 2022): unbiased, and
with a standard error. Either way the contributions add up to the output minus its mean over the background.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill_serving.domain.features import Matrices
from tidemill_serving.domain.model import Model, Scalar

EXACT = 8
_CALL_ROWS = 4_096


@dataclass(frozen=True)
class Contributions:
    """Of one row. ``output`` is the probability of the class ``of``, or the value; ``values`` and ``errors`` (standard
    errors, 0 when exact) are [features], numeric ones first."""

    of: Scalar
    output: float
    base: float
    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    evaluated: int
    """Rows that the model answered for it."""


def explain(model: Model, row: Matrices, background: Matrices, pairs: int, seed: int = 0) -> Contributions:
    """Explain one row ([1, k] and [1, m]). The class explained is the positive one of two, else the predicted one.

    Cost in rows of the model, with B background rows: up to ``EXACT`` features f, B·2^f; beyond, 2·pairs·B·(f + 1).
    """
    answer = model.predict(row)
    index = _explained(model, answer.probabilities)
    features = row.numeric.shape[1] + row.categorical.shape[1]
    ask = _Output(model, index, row, background)
    if features <= EXACT:
        values, errors = _exact(ask, features)
    else:
        values, errors = _sampled(ask, features, pairs, np.random.default_rng(seed))
    everything, nothing = np.ones(features, bool), np.zeros(features, bool)
    base = float(ask(np.tile(nothing, (len(background), 1)), np.arange(len(background))).mean())
    output = float(ask(everything[None], np.zeros(1, int))[0])
    of = None if index is None else model.classes[index]
    return Contributions(of, output, base, values, errors, ask.evaluated)


def _explained(model: Model, probabilities: NDArray[np.float32] | None) -> int | None:
    if probabilities is None:
        return None
    return model.positive if len(model.classes) == 2 else int(probabilities[0].argmax())


class _Output:
    """The model's output for rows in which some features are the row's and the others a background row's."""

    def __init__(self, model: Model, index: int | None, row: Matrices, background: Matrices) -> None:
        self._model = model
        self._index = index
        self._row = row
        self._background = background
        self.evaluated = 0

    def __call__(self, taken: NDArray[np.bool_], rows: NDArray[np.int_]) -> NDArray[np.float64]:
        """``taken`` [n, features]: what is the row's; ``rows`` [n]: which background row the rest is from."""
        self.evaluated += len(taken)
        parts = [
            self._some(taken[start : start + _CALL_ROWS], rows[start : start + _CALL_ROWS])
            for start in range(0, len(taken), _CALL_ROWS)
        ]
        return np.concatenate(parts)

    def _some(self, taken: NDArray[np.bool_], rows: NDArray[np.int_]) -> NDArray[np.float64]:
        k = self._row.numeric.shape[1]
        numeric = np.where(taken[:, :k], self._row.numeric, self._background.numeric[rows])
        categorical = np.where(taken[:, k:], self._row.categorical, self._background.categorical[rows])
        found = self._model.predict(Matrices(np.ascontiguousarray(numeric), categorical))
        if found.probabilities is None or self._index is None:
            return np.array(found.values, np.float64)
        return found.probabilities[:, self._index].astype(np.float64)

    @property
    def backgrounds(self) -> int:
        """Rows of the background."""
        return len(self._background)


def _exact(ask: _Output, features: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The definition: a weighted mean of what a feature adds to every coalition of the others."""
    count = 2**features
    coalitions = (np.arange(count)[:, None] >> np.arange(features)) & 1 == 1
    rows = np.arange(ask.backgrounds)
    outputs = ask(np.repeat(coalitions, len(rows), axis=0), np.tile(rows, count)).reshape(count, -1).mean(axis=1)
    sizes = coalitions.sum(axis=1)
    weight = np.array([math.factorial(s) * math.factorial(features - s - 1) for s in range(features)], np.float64)
    values = np.zeros(features)
    for feature in range(features):
        without = np.flatnonzero(~coalitions[:, feature])
        gains = outputs[without | (1 << feature)] - outputs[without]
        values[feature] = (weight[sizes[without]] * gains).sum() / math.factorial(features)
    return values, np.zeros(features)


def _sampled(
    ask: _Output, features: int, pairs: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Walk from each background row to the row, one feature after the other: in random orders, and back to front."""
    orders = np.argsort(random.random((pairs * ask.backgrounds, features)), axis=1)
    orders = np.concatenate([orders, orders[:, ::-1]])
    rows = np.tile(np.arange(ask.backgrounds), 2 * pairs)
    places = np.argsort(orders, axis=1)
    # [walks, steps, features]: after step s the first s of the order are the row's
    taken = places[:, None, :] < np.arange(features + 1)[None, :, None]
    outputs = ask(taken.reshape(-1, features), np.repeat(rows, features + 1)).reshape(len(orders), features + 1)
    gains = np.empty((len(orders), features))
    np.put_along_axis(gains, orders, np.diff(outputs, axis=1), axis=1)
    both = (gains[: len(gains) // 2] + gains[len(gains) // 2 :]) / 2
    errors = both.std(axis=0, ddof=1) / math.sqrt(len(both)) if len(both) > 1 else np.full(features, np.nan)
    return both.mean(axis=0), errors
