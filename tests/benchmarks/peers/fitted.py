"""The model that peers without ONNX are given: one-hot, 100 boosting iterations, fitted on 5 000 rows, as a pipeline of
scikit-learn on data frames. Runs in the environments of the peers."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

NUMERIC = [f"number_{i}" for i in range(20)]
CATEGORICAL = [f"kind_{i}" for i in range(5)]


def fitted() -> Any:
    """A pipeline with ``predict_proba``."""
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {name: random.normal(size=5_000) for name in NUMERIC}
    columns |= {name: random.choice(list("abcdefgh"), 5_000).astype(object) for name in CATEGORICAL}
    x = pd.DataFrame(columns)
    y = (x[NUMERIC[0]] * x[NUMERIC[1]] + (x[CATEGORICAL[0]] == "a") > 0).astype(int)
    encode = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    prepare = make_column_transformer((encode, CATEGORICAL), remainder="passthrough")
    return make_pipeline(prepare, HistGradientBoostingClassifier(max_iter=100, early_stopping=False)).fit(x, y)
