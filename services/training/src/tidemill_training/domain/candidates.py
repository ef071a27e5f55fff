"""The families of models, their hyper-parameters, and the baseline they must beat."""

from typing import Any

from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge

Parameters = dict[str, Any]
MAX_LEAVES = 1024
"""Of a tree of a forest: without a bound its size, and with it the package and its latency, grow with the rows."""

DEFAULTS: dict[str, Parameters] = {
    "linear": {"strength": 1.0},
    "hist_gradient_boosting": {"learning_rate": 0.1, "max_iter": 100, "max_leaf_nodes": 31, "l2_regularization": 1e-3},
    "random_forest": {"n_estimators": 100, "min_samples_leaf": 1, "max_features": 0.5},
}


def suggest(trial: Any, family: str) -> Parameters:
    """Hyper-parameters of an optuna trial, in ranges that suit tabular data of some hundred to some million rows."""
    if family == "linear":
        return {"strength": trial.suggest_float("strength", 1e-3, 1e3, log=True)}
    if family == "hist_gradient_boosting":
        return {
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
            "max_iter": trial.suggest_int("max_iter", 50, 300, step=25),
            "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 7, 63, log=True),
            "l2_regularization": trial.suggest_float("l2_regularization", 1e-3, 10.0, log=True),
        }
    return {
        "n_estimators": trial.suggest_int("n_estimators", 50, 200, step=50),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 20, log=True),
        "max_features": trial.suggest_float("max_features", 0.2, 1.0),
    }


def estimator(family: str, task: str, parameters: Parameters, seed: int, jobs: int) -> Any:
    """An unfitted estimator. ``strength`` is the inverse of the regularisation, for both linear models."""
    classify = task == "classification"
    if family == "linear":
        if classify:
            return LogisticRegression(C=parameters["strength"], max_iter=1000, random_state=seed)
        return Ridge(alpha=1.0 / parameters["strength"], random_state=seed)
    if family == "hist_gradient_boosting":
        boosting = HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor
        # Native categories convert silently wrong; early stopping would take rows away from a small set.
        return boosting(**parameters, categorical_features=None, early_stopping=False, random_state=seed)
    forest = RandomForestClassifier if classify else RandomForestRegressor
    return forest(**parameters, max_leaf_nodes=MAX_LEAVES, random_state=seed, n_jobs=jobs)


def baseline(task: str) -> Any:
    """What predicts without looking at the features."""
    return DummyClassifier(strategy="prior") if task == "classification" else DummyRegressor(strategy="mean")
