"""Reading a trained model: only types that were reviewed here are ever constructed.

Each name was looked at: parts of scikit-learn's estimators without code of their own choosing, and the containers of
numbers they hold. The list is fixed; what a file asks for is never added to it.
"""

from pathlib import Path
from typing import Any

import skops.io

TRUSTED: tuple[str, ...] = (
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "numpy.dtype",
)


def read(path: Path) -> Any:
    """The model in a skops file whose digest has been verified.

    Raises skops.io.exceptions.UntrustedTypesFoundException for a file that asks for anything else.
    """
    return skops.io.load(path, trusted=list(TRUSTED))
