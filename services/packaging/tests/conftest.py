"""Models trained in training's layout, as files for the child's work and as objects for the service."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tidemill_contracts.artifacts import dataset_key, model_key, pipeline_key
from tidemill_contracts.dataset import Column, DatasetManifest, Part
from tidemill_contracts.events import ModelTrained
from tidemill_contracts.model import Evaluation, Explanation, Importance, ModelManifest, RowSelection, TrainedModel
from tidemill_contracts.pipeline import Feature, PipelineSpec
from tidemill_packaging.job import Job
from tidemill_shared.testing.platform import Platform

START = datetime(2020, 1, 1, tzinfo=UTC)
NUMERIC, CATEGORICAL = ("age", "income"), ("town",)
CLASSES: dict[str, tuple[Any, ...]] = {"binary": ("no", "yes"), "three": ("a", "b", "c"), "regression": ()}


@dataclass(frozen=True)
class Case:
    """Rows of both splits, the fitted model, and the child's job."""

    kind: str
    rows: dict[str, pd.DataFrame]
    model: Any
    job: Job


def table(kind: str, n: int, seed: int, first: int = 0) -> pd.DataFrame:
    """Rows as ingestion writes them."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 12, n).round(1),
            "income": rng.lognormal(8, 1, n),
            "town": rng.choice(["ulm", "bonn", "kiel"], n),
        }
    )
    signal = (frame["age"] - 40) / 12 + 0.4 * (frame["town"] == "ulm") + 0.3 * rng.normal(size=n)
    frame.loc[rng.random(n) < 0.05, "age"] = np.nan
    frame.loc[rng.random(n) < 0.05, "town"] = None
    codes = np.digitize(signal, [0.0] if kind == "binary" else [-0.5, 0.5])
    frame["outcome"] = signal * 10 if kind == "regression" else np.array(CLASSES[kind], object)[codes]
    frame["tidemill_row"] = np.arange(n, dtype=np.uint64)
    frame["tidemill_time"] = pd.Series([START + timedelta(hours=first + i) for i in range(n)]).astype(
        "datetime64[us, UTC]"
    )
    frame["tidemill_ordinal"] = np.arange(first, first + n)
    return frame


def layout(frame: pd.DataFrame) -> pd.DataFrame:
    """Training's frame."""
    columns: dict[str, Any] = {c: frame[c].to_numpy(np.float32, na_value=np.nan) for c in NUMERIC}
    columns |= {c: frame[c].fillna("").astype(object) for c in CATEGORICAL}
    return pd.DataFrame(columns)


def unfitted(family: str, kind: str) -> Pipeline:
    """Training's pipeline of a family."""
    regression = kind == "regression"
    median = SimpleImputer(strategy="median", keep_empty_features=True)
    how: Any = {"linear": make_pipeline(median, StandardScaler()), "forest": median, "boosting": "passthrough"}[family]
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
    if family == "linear":
        estimator: Any = Ridge() if regression else LogisticRegression(max_iter=1000)
    elif family == "forest":
        forest = RandomForestRegressor if regression else RandomForestClassifier
        estimator = forest(20, min_samples_leaf=5, random_state=0)
    else:
        boosting = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
        estimator = boosting(max_iter=20, categorical_features=None, early_stopping=False, random_state=0)
    blocks = ColumnTransformer([("numeric", how, [0, 1]), ("categorical", encoder, [2])])
    return Pipeline([("preprocessing", blocks), ("model", estimator)])


def target(frame: pd.DataFrame, kind: str) -> Any:
    """Class indexes or values."""
    if kind == "regression":
        return frame["outcome"].to_numpy(float)
    return frame["outcome"].map({c: i for i, c in enumerate(CLASSES[kind])}).to_numpy("int64")


def write(frame: pd.DataFrame, path: Path) -> Path:
    """A part."""
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    return path


@pytest.fixture
def case(tmp_path: Path) -> Callable[..., Case]:
    """Builds a trained case: ``case("forest", "binary")``."""

    def build(family: str = "boosting", kind: str = "binary", *, model: Any = None, **changes: Any) -> Case:
        folder = tmp_path / "case"
        folder.mkdir(exist_ok=True)
        rows = {"train": table(kind, 600, 1), "validation": table(kind, 200, 2, first=600)}
        fitted = model or unfitted(family, kind).fit(layout(rows["train"]), target(rows["train"], kind))
        skops.io.dump(fitted, folder / "model.skops")
        facts: dict[str, Any] = {
            "folder": folder,
            "model": folder / "model.skops",
            "task": "regression" if kind == "regression" else "classification",
            "metric": {"binary": "f1", "three": "log_loss", "regression": "rmse"}[kind],
            "target": "outcome",
            "classes": CLASSES[kind],
            "positive": "yes" if kind == "binary" else None,
            "threshold": None,
            "numeric": NUMERIC,
            "categorical": CATEGORICAL,
            "train": (write(rows["train"], folder / "train"),),
            "validation": (write(rows["validation"], folder / "validation"),),
            "test": (),
            "pooled": False,
            "from_ordinal": 0,
            "since": None,
            "newest": None,
            "opset": 21,
            "parity_rows": 2_000,
            "golden_rows": 32,
            "reference_rows": 100_000,
            "seed": 0,
        }
        return Case(kind, rows, fitted, Job(**(facts | changes)))

    return build


SPEC = PipelineSpec(name="towns", task="classification", target="outcome", positive="yes", primary="f1")


async def stored(
    platform: Platform, built: Case, *, version: str = "a1b2c3d4e5f6", cause: str = "cause-1"
) -> ModelTrained:
    """The case as training would have left it in the store, and the event that announces it."""
    store, rows = platform.store, built.rows
    spec = await store.put_document(pipeline_key(SPEC.name, SPEC.version), SPEC)
    parts = [
        Part(
            split=split,
            file=await store.put_file(dataset_key(SPEC.name, "0" * 12, f"{split}.parquet"), built.job.folder / split),
            rows=len(rows[split]),
            first_ordinal=int(rows[split]["tidemill_ordinal"].min()),
            last_ordinal=int(rows[split]["tidemill_ordinal"].max()),
        )
        for split in ("train", "validation")
    ]
    kinds = [*((c, "numeric") for c in NUMERIC), *((c, "categorical") for c in CATEGORICAL)]
    dataset = DatasetManifest(
        pipeline=SPEC.name,
        version="0" * 12,
        sequence=1,
        task="classification",
        columns=tuple(Column.model_validate({"name": n, "kind": k, "role": "feature"}) for n, k in kinds),
        classes=CLASSES[built.kind],
        parts=tuple(parts),
        next_ordinal=800,
        rows={"train": 600, "validation": 200},
        new_rows=800,
        source=spec,
        spec=spec,
        causes=("cause-0",),
        code_version="0",
    )
    explanation = Explanation(metric="f1", importances=(Importance(feature="age", mean=0.25, std=0.0, error=0.05),))
    files = {
        "model.skops": await store.put_file(model_key(SPEC.name, version, "model.skops"), built.job.model),
        "evaluation.json": await store.put_document(
            model_key(SPEC.name, version, "evaluation.json"), Evaluation(rows=200, metrics={}, baseline={})
        ),
        "explanation.json": await store.put_document(model_key(SPEC.name, version, "explanation.json"), explanation),
    }
    manifest = ModelManifest(
        pipeline=SPEC.name,
        version=version,
        task="classification",
        family="hist_gradient_boosting",
        parameters={},
        features=tuple(Feature.model_validate({"name": n, "kind": k}) for n, k in kinds),
        categories={"town": ("bonn", "kiel", "ulm")},
        target="outcome",
        classes=CLASSES[built.kind],
        positive=built.job.positive,
        files=files,
        metrics={"f1": 0.81, "accuracy": 0.9},
        dataset=await store.put_document(dataset_key(SPEC.name, "0" * 12, "manifest.json"), dataset),
        dataset_version="0" * 12,
        selection=RowSelection(),
        rows={"train": 600, "validation": 200},
        spec=spec,
        trigger="first_data",
        causes=(cause,),
        seed=0,
        code_version="0",
        environment={},
    )
    trained = TrainedModel(
        pipeline=SPEC.name,
        version=version,
        manifest=await store.put_document(model_key(SPEC.name, version, "manifest.json"), manifest),
        dataset_version="0" * 12,
        family=manifest.family,
        metrics=manifest.metrics,
        rows=manifest.rows,
        trigger="first_data",
        seconds=1.0,
    )
    return ModelTrained.root(trained, subject=f"{SPEC.name}/{version}", source="urn:tidemill:training", id=cause)


@pytest.fixture
def store_model(platform: Platform) -> Callable[..., Awaitable[ModelTrained]]:
    """Puts a case into the platform's store."""
    return partial(stored, platform)
