"""Preprocessing inside the model, so that training and serving cannot differ.

Layout of the rows: a frame whose first k columns are numeric (float32, NaN is missing) and whose other m columns are
categorical (strings, "" is missing), addressed by position. It becomes two ONNX inputs, ``numeric`` [n, k] and
``categorical`` [n, m]. The target is coded as the index of its class.
"""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def frame(table: pd.DataFrame, numeric: list[str], categorical: list[str]) -> pd.DataFrame:
    """Rows in the model's layout: float32 and strings, as serving will send them."""
    columns: dict[str, Any] = {name: table[name].to_numpy(np.float32, na_value=np.nan) for name in numeric}
    columns |= {name: table[name].fillna("").astype(object) for name in categorical}
    return pd.DataFrame(columns, index=table.index)


def preprocessor(family: str, numeric: int, categorical: int) -> ColumnTransformer:
    """What turns the layout into numbers. Trees get no scaler: its float32 rounding would flip splits in ONNX."""
    blocks: list[tuple[str, Any, list[int]]] = []
    if numeric:
        # Boosted trees read missing values natively.
        how: Any = "passthrough"
        if family == "linear":
            how = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
        elif family == "random_forest":
            how = SimpleImputer(strategy="median", keep_empty_features=True)
        blocks.append(("numeric", how, list(range(numeric))))
    if categorical:
        # "ignore": the other ways to treat unseen categories convert to ONNX and then fail at run time.
        encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
        blocks.append(("categorical", encoder, list(range(numeric, numeric + categorical))))
    return ColumnTransformer(blocks)


def assemble(family: str, estimator: Any, numeric: int, categorical: int) -> Pipeline:
    """Preprocessing and estimator as one model."""
    return Pipeline([("preprocessing", preprocessor(family, numeric, categorical)), ("model", estimator)])
