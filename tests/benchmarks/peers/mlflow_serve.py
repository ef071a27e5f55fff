"""Keeps the model of ``mlflow_fitted.py`` in the working directory and serves it with ``mlflow models serve``. Runs in
MLflow's environment; its argument is the port."""

import os
import sys
from pathlib import Path

import mlflow

mlflow.pyfunc.save_model(
    "model", python_model=str(Path(__file__).with_name("mlflow_fitted.py")), pip_requirements=["pandas", "scikit-learn"]
)
command = ["models", "serve", "-m", "model", "-p", sys.argv[1], "--workers", "1", "--env-manager", "local"]
os.execv(sys.executable, [sys.executable, "-m", "mlflow", *command])  # noqa: S606 - a list, not a string for a shell
