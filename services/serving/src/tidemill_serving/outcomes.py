"""What a model says of rows, and why there may be nothing to say."""

import numpy as np

from tidemill_serving.domain.features import Matrices, Refusal
from tidemill_serving.domain.model import Model, Predictions, Scalar
from tidemill_shared.log import logger
from tidemill_shared.telemetry import counter

log = logger(__name__)
NO_MODEL = Refusal("no_model", None, "no model has been promoted for this pipeline yet")
NO_OBJECT = Refusal("wrong_type", "features", "features must be an object of feature names and their values")
EXPIRED = Refusal("expired", "expires_at", "the request had expired before its turn came")
NO_ANSWER = Refusal("model_failed", None, "the model could not answer this row")


def told(pipeline: str, answered: int, refused: int) -> None:
    """Count a pipeline's answers."""
    counted = counter("tidemill.serving.predictions")
    counted.add(answered, {"pipeline": pipeline, "outcome": "completed"})
    counted.add(refused, {"pipeline": pipeline, "outcome": "failed"})


def predicted(model: Model, inputs: Matrices) -> Predictions:
    """Answers for [n] rows by one call, unless a row breaks it for all the others; such a row has the value None."""
    try:
        return model.predict(inputs)
    except Exception as error:
        # ONNX Runtime's message may quote the row, so only its kind is logged.
        log.error("the model failed", kind=type(error).__name__, rows=len(inputs))
    if len(inputs) == 1:
        odds = np.full((1, len(model.classes)), np.nan, np.float32)
        return Predictions([None], odds if model.task == "classification" else None)
    parts = [predicted(model, inputs[i : i + 1]) for i in range(len(inputs))]
    values: list[Scalar] = [value for part in parts for value in part.values]
    odds_of = [part.probabilities for part in parts if part.probabilities is not None]
    return Predictions(values, np.concatenate(odds_of) if odds_of else None)
