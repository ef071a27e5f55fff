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

MAX_CATEGORIES = 100
"""Columns of a one-hot encoded feature, at most: its most frequent categories. The others are treated like unknown
ones (all zeros), so that a column of names cannot fill the memory."""


def frame(table: pd.DataFrame, numeric: list[str], categorical: list[str]) -> pd.DataFrame:
    """Rows in the model's layout: float32 and strings, as serving will send them.

    What float32 cannot hold is missing.
    """
    columns: dict[str, Any] = {}
    for name in numeric:
        with np.errstate(over="ignore"):
            values = table[name].to_numpy(np.float64, na_value=np.nan).astype(np.float32)
        columns[name] = np.where(np.isfinite(values), values, np.float32(np.nan))
    columns |= {name: table[name].fillna("").astype(object) for name in categorical}
    return pd.DataFrame(columns, index=table.index)


def frequent_categories(x: pd.DataFrame, numeric: int) -> list[list[str]]:
    """For each categorical column of the layout its encoded categories, sorted; ties are broken by name."""
    found = []
    for name in x.columns[numeric:]:
        counts = x[name].value_counts()
        ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
        found.append(sorted(str(value) for value, _ in ranked[:MAX_CATEGORIES]))
    return found


def preprocessor(family: str, numeric: int, categories: list[list[str]]) -> ColumnTransformer:
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
    if categories:
        # "ignore": the other ways to treat unseen categories convert to ONNX and then fail at run time.
        encoder = OneHotEncoder(
            categories=[np.array(c, dtype=object) for c in categories],
            handle_unknown="ignore",
            sparse_output=False,
            dtype=np.float32,
        )
        blocks.append(("categorical", encoder, list(range(numeric, numeric + len(categories)))))
    return ColumnTransformer(blocks)


def assemble(family: str, estimator: Any, numeric: int, categories: list[list[str]]) -> Pipeline:
    """Preprocessing and estimator as one model."""
    return Pipeline([("preprocessing", preprocessor(family, numeric, categories)), ("model", estimator)])
