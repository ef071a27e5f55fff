"""MLServer given the ONNX model: a runtime of our own, whose requests it batches."""

from arrays import Session
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    """P(positive) of the tensors ``numeric`` and ``categorical``."""

    async def load(self) -> bool:
        """Once, at start."""
        self._session = Session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One call for the rows of several requests."""
        import numpy as np

        numeric, categorical = payload.inputs
        texts = np.array(StringCodec.decode_input(categorical), object).reshape(categorical.shape)
        found = self._session.odds(NumpyCodec.decode_input(numeric).astype(np.float32), texts)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("p", found.reshape(-1, 1))])
