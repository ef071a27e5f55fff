"""BentoML as it comes: a service around scikit-learn."""

from typing import Any

import bentoml


@bentoml.service(workers=1, traffic={"timeout": 60})
class Service:
    """P(positive) of rows."""

    def __init__(self) -> None:
        from fitted import fitted

        self._model = fitted()

    @bentoml.api(route="/predict")
    def predict(self, rows: list[dict[str, Any]]) -> list[float]:
        """One data frame a request."""
        import pandas as pd

        return self._model.predict_proba(pd.DataFrame(rows))[:, 1].tolist()
