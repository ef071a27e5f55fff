"""MLflow as it comes: a model of its generic flavour around scikit-learn, kept as code. It is fitted at its start
instead of read from a file: what MLflow keeps for scikit-learn runs what a file says."""

from typing import Any

import mlflow
import pandas as pd
from fitted import fitted


class Fitted(mlflow.pyfunc.PythonModel):
    """P(positive) of a data frame."""

    def load_context(self, context: Any) -> None:
        """Once, at start."""
        self._model = fitted()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        """One data frame a request."""
        return self._model.predict_proba(model_input)[:, 1]


mlflow.models.set_model(Fitted())
