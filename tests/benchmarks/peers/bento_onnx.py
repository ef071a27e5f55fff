"""BentoML given the ONNX model, with its request batching on."""

from typing import Any

import bentoml


@bentoml.service(workers=1, traffic={"timeout": 60})
class Service:
    """P(positive) of rows."""

    def __init__(self) -> None:
        from arrays import Session

        self._session = Session()

    @bentoml.api(route="/predict", batchable=True, max_batch_size=256, max_latency_ms=60_000)
    def predict(self, rows: list[dict[str, Any]]) -> list[float]:
        """One call for the rows of several requests."""
        return self._session.odds_of(rows)
