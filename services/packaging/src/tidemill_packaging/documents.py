"""The documents of a package, from what training stated and what the child process found out."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill_contracts.dataset import Histogram
from tidemill_contracts.document import Document
from tidemill_contracts.model import Evaluation, Explanation, Importance, ModelManifest
from tidemill_contracts.package import (
    Golden,
    GoldenPrediction,
    Parity,
    Reference,
    ReferenceColumn,
    ReferenceSample,
    Signature,
    Tensor,
)
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_packaging.card import model_card
from tidemill_packaging.domain.column import Column
from tidemill_packaging.job import Packed

_SAMPLED_COLUMNS = 32


@dataclass(frozen=True)
class Sources:
    """What training and the operator stated."""

    model: ModelManifest
    spec: PipelineSpec
    evaluation: Evaluation
    explanation: Explanation


@dataclass(frozen=True)
class Documents:
    """By file name, and the parity that is also announced."""

    files: dict[str, bytes]
    parity: Parity


def documents(sources: Sources, packed: Packed) -> Documents:
    """Everything but the model itself and its proof; the same model gives the same bytes."""
    parity = _parity(sources, packed)
    found: dict[str, Document] = {
        "signature.json": _signature(sources, packed),
        "golden.json": _golden(packed),
        "reference.json": _reference(sources, packed),
        "parity.json": parity,
    }
    files = {name: document.to_json() for name, document in found.items()}
    files["model-card.md"] = model_card(sources.model, parity, packed.warnings).encode()
    return Documents(files, parity)


def _signature(sources: Sources, packed: Packed) -> Signature:
    model = sources.model
    return Signature(
        task=model.task,
        numeric=tuple(f.name for f in model.features if f.kind == "numeric"),
        categorical=tuple(f.name for f in model.features if f.kind == "categorical"),
        categories=model.categories,
        unknown_categories=sources.spec.unknown_categories,
        inputs=tuple(_tensor(*t) for t in packed.inputs),
        outputs=tuple(_tensor(*t) for t in packed.outputs),
        target=model.target,
        classes=model.classes,
        positive=model.positive,
        threshold=model.threshold,
    )


def _golden(packed: Packed) -> Golden:
    return Golden(
        tolerance=packed.tolerance,
        predictions=tuple(
            GoldenPrediction(features=features, prediction=prediction, probabilities=probabilities)
            for features, prediction, probabilities in packed.golden
        ),
    )


def _reference(sources: Sources, packed: Packed) -> Reference:
    """The score is training's, on rows that the model was not fitted on: the packaged model answers alike."""
    metrics, metric = sources.model.metrics, sources.spec.primary
    importance = {i.feature: i for i in sources.explanation.importances}
    if sources.model.task == "classification":
        error = 1.0 - metrics.get("accuracy", 1.0)
    else:
        error = metrics.get("mae", 0.0) / packed.target_scale
    return Reference(
        rows=packed.reference_rows,
        columns=tuple(_column(c, importance.get(c.name)) for c in packed.columns),
        validation=tuple(_column(c, importance.get(c.name)) for c in packed.validation),
        prediction=_column(packed.prediction),
        target=_column(packed.target),
        metric=metric,
        score=metrics.get(metric, packed.trained),
        error=error,
        error_rows=sources.evaluation.rows,
        target_scale=packed.target_scale,
        sample=_sample(packed.columns, importance),
    )


def _sample(columns: Sequence[Column], importance: Mapping[str, Importance]) -> ReferenceSample | None:
    """Rows as bins of the most important columns: the monitor's state grows with their number."""
    chosen = sorted(columns, key=lambda c: -importance[c.name].mean if c.name in importance else 0.0)[:_SAMPLED_COLUMNS]
    if len(chosen) < 2:
        return None
    bins = bytes(cell for row in zip(*(c.sample for c in chosen), strict=True) for cell in row)
    names = tuple(c.name for c in chosen)
    return ReferenceSample(columns=names, rows=len(chosen[0].sample), bins=b64encode(bins).decode())


def _parity(sources: Sources, packed: Packed) -> Parity:
    return Parity(
        rows=packed.rows,
        label_agreement=packed.label_agreement,
        metric=sources.spec.primary,
        trained=packed.trained,
        packaged=packed.packaged,
        p999=packed.p999,
        maximum=packed.maximum,
    )


def _tensor(name: str, datatype: str, shape: tuple[int, ...]) -> Tensor:
    return Tensor.model_validate({"name": name, "datatype": datatype, "shape": shape})


def _column(c: Column, importance: Importance | None = None) -> ReferenceColumn:
    facts: dict[str, Any] = {
        "name": c.name,
        "kind": c.kind,
        "rows": c.rows,
        "missing": c.missing,
        "histogram": Histogram(edges=c.edges, counts=c.counts) if c.counts else None,
        "categories": c.categories,
        "minimum": c.minimum,
        "maximum": c.maximum,
        "mean": c.mean,
        "std": c.std,
        "longest_run": c.longest_run,
        "outside": c.outside,
        "importance": importance.mean if importance else 0.0,
        "importance_error": importance.error if importance else 0.0,
    }
    return ReferenceColumn.model_validate(facts)
