"""MLServer's own runtime for scikit-learn, given a model that is fitted at its start instead of read from a file: what
it reads is joblib's format, which runs what a file says."""

from fitted import fitted
from mlserver_sklearn import SKLearnModel


class FittedModel(SKLearnModel):
    """Answers as its parent does."""

    async def load(self) -> bool:
        """Once, at start."""
        self._model = fitted()
        return True
