"""Contributions against their definition, computed another way."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from tidemill_serving.domain import shapley
from tidemill_serving.domain.features import Layout, Matrices
from tidemill_serving.domain.model import Model, Predictions

LAYOUT = Layout(("height", "weight"), ("colour",), None)


def some(rows: int, seed: int) -> Matrices:
    random = np.random.default_rng(seed)
    colours = np.array(["red", "green", "blue", ""], object)
    return Matrices(random.normal(size=(rows, 2)).astype(np.float32), colours[random.integers(0, 4, (rows, 1))])


@pytest.fixture
def model(make_onnx: Callable[[float], bytes]) -> Model:
    return Model(make_onnx(0.3), LAYOUT, task="classification", classes=("no", "yes"), positive="yes")


def by_definition(model: Model, row: Matrices, background: Matrices) -> np.ndarray:
    """The mean over all orders of what a feature adds when its turn comes."""

    def output(taken: frozenset[int]) -> float:
        numeric, categorical = background.numeric.copy(), background.categorical.copy()
        for feature in taken:
            if feature < 2:
                numeric[:, feature] = row.numeric[0, feature]
            else:
                categorical[:, feature - 2] = row.categorical[0, feature - 2]
        odds = model.predict(Matrices(numeric, categorical)).probabilities
        assert odds is not None
        return float(odds[:, 1].astype(float).mean())

    orders = list(itertools.permutations(range(3)))
    values = np.zeros(3)
    for order in orders:
        for i, feature in enumerate(order):
            values[feature] += output(frozenset(order[: i + 1])) - output(frozenset(order[:i]))
    return values / len(orders)


def test_few_features_are_explained_exactly(model: Model) -> None:
    for seed in range(5):
        row, background = some(1, seed), some(7, 100 + seed)
        found = shapley.explain(model, row, background, pairs=1)
        np.testing.assert_allclose(found.values, by_definition(model, row, background), atol=1e-6)
        assert found.values.sum() == pytest.approx(found.output - found.base, abs=1e-6)
        assert (found.of, found.evaluated) == ("yes", 7 * 2**3 + 7 + 1)
        assert not found.errors.any()


def test_samples_add_up_and_their_errors_are_honest(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapley, "EXACT", 0)
    scaled = []
    for seed in range(20):
        row, background = some(1, seed), some(9, 100 + seed)
        found = shapley.explain(model, row, background, pairs=4, seed=seed)
        assert found.values.sum() == pytest.approx(found.output - found.base, abs=1e-6)
        assert found.evaluated == 2 * 4 * 9 * 4 + 9 + 1
        again = shapley.explain(model, row, background, pairs=4, seed=seed)
        np.testing.assert_array_equal(found.values, again.values)
        scaled += list((found.values - by_definition(model, row, background)) / found.errors)
    # 60 of them are about standard normal, if anything narrower: the rows of the background are all there each time.
    assert np.sqrt(np.mean(np.square(scaled))) < 1.3


class Sum(Model):
    """Ten numbers with known weights, and one product."""

    def predict(self, rows: Matrices) -> Predictions:
        """The weighted sum."""
        x = rows.numeric.astype(float)
        return Predictions((x @ np.arange(10.0) + x[:, 0] * x[:, 1]).tolist(), None)


def test_many_features_of_a_regression(make_onnx: Callable[[float], bytes]) -> None:
    layout = Layout(tuple(f"n{i}" for i in range(10)), (), None)
    model = Sum(make_onnx(0.0), layout, task="regression", classes=())
    random = np.random.default_rng(0)
    none = np.empty((1, 0), object)
    row = Matrices(random.normal(size=(1, 10)).astype(np.float32), none)
    background = Matrices(random.normal(size=(16, 10)).astype(np.float32), np.empty((16, 0), object))
    found = shapley.explain(model, row, background, pairs=2)
    x, b = row.numeric[0].astype(float), background.numeric.astype(float)
    expected = np.arange(10.0) * (x - b.mean(axis=0))
    # Shapley values of a product of two: half of each way in which it is put together.
    expected[0] += ((x[0] - b[:, 0]) * (x[1] + b[:, 1]) / 2).mean()
    expected[1] += ((x[1] - b[:, 1]) * (x[0] + b[:, 0]) / 2).mean()
    # An antithetic pair is exact where no more than two features act together.
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    assert found.of is None
