"""The learner that every other policy uses: what an analyst would fit by hand on such rows."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

Array = NDArray[Any]
_LEAST_OF_A_CLASS = 3
_CATEGORIES = 50


class Encoder:
    """Rows as numbers: numeric columns as they are, categories one-hot by the whole stream's values."""

    def __init__(self, table: pd.DataFrame) -> None:
        categorical = [c for c in table.columns if not pd.api.types.is_numeric_dtype(table[c])]
        blocks = [table[[c for c in table.columns if c not in categorical]].to_numpy(np.float64)]
        if categorical:
            encoder = OneHotEncoder(sparse_output=False)
            known = table[categorical].fillna("").astype(str)
            # Rare ones together: a column of thousands of names must not become thousands of columns.
            frequent = {c: known[c].value_counts().index[:_CATEGORIES] for c in categorical}
            blocks.append(encoder.fit_transform(known.apply(lambda c: c.where(c.isin(frequent[c.name]), "other"))))
        self.rows: Array = np.hstack(blocks)


def fit(x: Array, y: Array, seed: int, classify: bool = True) -> Any:
    """Gradient boosting or a linear model, whichever is better by three folds; None where there is nothing to learn.
    Classes of fewer rows than folds are left aside."""
    if not classify:
        return _regressor(x, y, seed)
    found, counts = np.unique(y, return_counts=True)
    plenty = np.isin(y, found[counts >= _LEAST_OF_A_CLASS])
    x, y = x[plenty], y[plenty]
    if (counts >= _LEAST_OF_A_CLASS).sum() < 2:
        return None
    boosting = HistGradientBoostingClassifier(random_state=seed, early_stopping=False)
    linear = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), LogisticRegression(max_iter=1000)
    )
    return _better((boosting, linear), x, y)


def _regressor(x: Array, y: Array, seed: int) -> Any:
    if len(np.unique(y)) < _LEAST_OF_A_CLASS:
        return None
    boosting = HistGradientBoostingRegressor(random_state=seed, early_stopping=False)
    linear = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), Ridge())
    return _better((boosting, linear), x, y)


def _better(models: tuple[Any, Any], x: Array, y: Array) -> Any:
    return max(models, key=lambda m: float(cross_val_score(m, x, y, cv=3).mean())).fit(x, y)
