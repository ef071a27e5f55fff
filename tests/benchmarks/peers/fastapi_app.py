"""What people write first: FastAPI and scikit-learn on a data frame."""

from typing import Any

import pandas as pd
from fastapi import FastAPI
from fitted import fitted

model, app = fitted(), FastAPI()


@app.post("/predict")
def predict(body: dict[str, Any]) -> dict[str, Any]:
    """P(positive) of ``rows``."""
    return {"p": model.predict_proba(pd.DataFrame(body["rows"]))[:, 1].tolist()}
