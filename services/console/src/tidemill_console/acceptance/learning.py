"""The learner that every other policy uses: what an analyst would fit by hand on such rows."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

Array = NDArray[Any]
_LEAST_OF_A_CLASS = 3


class Encoder:
    """Rows as numbers: numeric columns as they are, categories one-hot by the whole stream's values."""

    def __init__(self, table: pd.DataFrame) -> None:
        categorical = [c for c in table.columns if not pd.api.types.is_numeric_dtype(table[c])]
        blocks = [table[[c for c in table.columns if c not in categorical]].to_numpy(np.float64)]
        if categorical:
            encoder = OneHotEncoder(sparse_output=False)
            blocks.append(encoder.fit_transform(table[categorical].fillna("").astype(str)))
        self.rows: Array = np.hstack(blocks)


def fit(x: Array, y: Array, seed: int) -> Any:
    """Gradient boosting or logistic regression, whichever is better by three folds; None where a class is missing."""
    counts = np.unique(y, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < _LEAST_OF_A_CLASS:
        return None
    boosting = HistGradientBoostingClassifier(random_state=seed, early_stopping=False)
    linear = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), LogisticRegression(max_iter=1000)
    )
    better = max((boosting, linear), key=lambda m: float(cross_val_score(m, x, y, cv=3).mean()))
    return better.fit(x, y)
