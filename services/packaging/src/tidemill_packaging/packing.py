"""A package from model file to description: the domain's functions in their order. Imported in child processes only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill_packaging.domain import conversion, golden, parity, reference, rows, trusted
from tidemill_packaging.domain.column import Column
from tidemill_packaging.domain.runtime import Packaged
from tidemill_packaging.job import Job, Packed, Step, Unpackable
from tidemill_shared.model_bytes import UnsafeModel, check_model

Array = NDArray[Any]
LABEL_AGREEMENT, METRIC_DIFFERENCE = 0.999, 0.001
"""What parity asks for, at least and at most."""
_FEW_ROWS = 20
"""With fewer rows that the model has not seen the training rows describe its answers."""


class _RefusedError(Exception):
    """A step has refused the model."""

    def __init__(self, code: str, message: str, step: Step = "load") -> None:
        super().__init__(message)
        self.step, self.code = step, code


@contextmanager
def _step(step: Step) -> Iterator[None]:
    """Whatever a library raises about these bytes and rows is a refusal at this step: it would raise it again."""
    try:
        yield
    except _RefusedError as error:
        error.step = step
        raise
    except Exception as error:
        raise _RefusedError("failed", f"{type(error).__name__}: {error}", step) from error


@dataclass(frozen=True)
class _Tried:
    """Both models' answers on the same rows: [n, classes] probabilities or [n] values."""

    numbers: Array
    strings: Array
    real: int
    trained: Array
    packaged: Array
    agreement: parity.Agreement


def pack(job: Job) -> Packed | Unpackable:
    """Load, convert, compare, describe. Writes ``model.onnx`` into the folder."""
    try:
        return _pack(job)
    except _RefusedError as error:
        return Unpackable(error.step, error.code, str(error))


def _pack(job: Job) -> Packed:
    with _step("load"):
        model = trusted.read(job.model)
    with _step("convert"):
        onnx, packaged = _convert(job, model)
        (job.folder / "model.onnx").write_bytes(onnx)
    with _step("parity"):
        train, unseen = _read(job)
        tried = _compare(job, model, packaged, train, unseen)
    with _step("golden"):
        tolerance, proofs = _golden(job, tried)
    with _step("reference"):
        columns = [_described(c, rows.numbers(train, c), reference.numeric_column) for c in job.numeric]
        columns += [_described(c, rows.strings(train, c), reference.categorical_column) for c in job.categorical]
        held = _like(columns, unseen) if len(unseen) >= _FEW_ROWS else ()
        prediction = _prediction(job, packaged, unseen if len(unseen) >= _FEW_ROWS else train)
        target, scale = _target(job, train)
    a = tried.agreement
    return Packed(
        rows=len(tried.trained),
        label_agreement=a.label_agreement,
        trained=a.trained,
        packaged=a.packaged,
        p999=a.p999,
        maximum=a.maximum,
        tolerance=tolerance,
        golden=proofs,
        reference_rows=len(train),
        columns=tuple(columns),
        validation=held,
        prediction=prediction,
        target=target,
        target_scale=scale,
        inputs=packaged.inputs,
        outputs=packaged.outputs,
        warnings=tuple(conversion.cautions(model)),
    )


def _described(name: str, values: Any, describe: Callable[[str, Any], Column]) -> Column:
    return reference.sampled(describe(name, values), values)


def _like(columns: list[Column], table: pa.Table) -> tuple[Column, ...]:
    """The same columns over other rows, counted in the same bins."""
    return tuple(
        reference.numeric_column(c.name, rows.numbers(table, c.name), c)
        if c.kind == "numeric"
        else reference.categorical_column(c.name, rows.strings(table, c.name), c)
        for c in columns
    )


def _convert(job: Job, model: Any) -> tuple[bytes, Packaged]:
    if job.classify and [int(c) for c in model.classes_] != list(range(len(job.classes))):
        raise _RefusedError("missing_class", "the model does not know every class of its dataset")
    try:
        onnx = conversion.convert(
            model,
            numeric=len(job.numeric),
            categorical=len(job.categorical),
            classify=job.classify,
            opset=job.opset,
        )
        check_model(onnx)
    except (conversion.UnconvertibleError, UnsafeModel) as error:
        raise _RefusedError("unconvertible", str(error)) from error
    return onnx, Packaged(onnx)


def _read(job: Job) -> tuple[pa.Table, pa.Table]:
    """The newest rows of the model's selection that it was trained on, and that it has not seen."""
    first = rows.first_ordinal((*job.train, *job.validation), job.from_ordinal, job.since, job.newest)
    columns = (*job.numeric, *job.categorical, job.target)
    train = rows.read(job.train, columns, first, job.since, job.reference_rows)
    if not len(train):
        raise _RefusedError("no_rows", "the model's training rows cannot be found")
    validation = rows.read(job.validation, columns, first, job.since, job.reference_rows)
    if not job.pooled:
        return train, validation
    together = rows.joined(train, validation, job.reference_rows)
    return together, rows.read(job.test, columns, first, job.since, job.reference_rows)


def _compare(job: Job, model: Any, packaged: Packaged, train: pa.Table, unseen: pa.Table) -> _Tried:
    pool = pa.concat_tables([train, unseen], promote_options="default")
    pool = pool.slice(max(0, len(pool) - max(job.parity_rows, len(unseen))))
    numbers, strings, source = rows.enlarge(
        *rows.layout(pool, job.numeric, job.categorical), rows=job.parity_rows, seed=job.seed
    )
    own = rows.as_trained(numbers, strings, job.numeric, job.categorical)
    y = rows.targets(pool, job.target, job.classes)[source]
    answers = packaged.run(numbers, strings)
    if not all(np.isfinite(a).all() for a in answers):
        raise _RefusedError("not_finite", "the package answers some rows with no finite number")
    if job.classify:
        a, b = np.asarray(model.predict_proba(own), np.float64), answers[1]
        reading = parity.Reading(job.metric, job.positive_index, job.threshold)
        agreement = parity.classifiers(y, a, b, answers[0].reshape(-1), reading)
    else:
        a, b = (np.asarray(v, np.float64).reshape(-1) for v in (model.predict(own), answers[0]))
        agreement = parity.regressors(y, a, b, job.metric)
    if agreement.label_agreement < LABEL_AGREEMENT or abs(agreement.trained - agreement.packaged) > METRIC_DIFFERENCE:
        raise _RefusedError(
            "disagreement",
            f"on {len(own)} rows package and trained model agree on {agreement.label_agreement:.3%} of answers "
            f"({LABEL_AGREEMENT:.1%} needed); {job.metric} {agreement.packaged:.4f} instead of {agreement.trained:.4f}",
        )
    return _Tried(numbers, strings, len(pool), a, b, agreement)


def _golden(job: Job, tried: _Tried) -> tuple[float, tuple[tuple[dict[str, Any], Any, tuple[float, ...]], ...]]:
    difference = golden.differences(tried.trained, tried.packaged)
    chosen = golden.choose(difference, tried.real, job.golden_rows)
    found = []
    for i in chosen:
        features: dict[str, Any] = {
            c: None if np.isnan(v) else float(v) for c, v in zip(job.numeric, tried.numbers[i], strict=True)
        }
        features |= {c: v or None for c, v in zip(job.categorical, tried.strings[i], strict=True)}
        if job.classify:
            p = tried.trained[i]
            label = int(parity.decide(p[None], job.positive_index, job.threshold)[0])
            found.append((features, job.classes[label], tuple(float(v) for v in p)))
        else:
            found.append((features, float(tried.trained[i]), ()))
    return golden.tolerance(difference[chosen]), tuple(found)


def _prediction(job: Job, packaged: Packaged, table: pa.Table) -> Any:
    answers = packaged.run(*rows.layout(table, job.numeric, job.categorical))
    if not job.classify:
        return reference.numeric_column("prediction", answers[0].reshape(-1).astype(np.float64))
    if len(job.classes) == 2:
        return reference.numeric_column("prediction", answers[1][:, job.positive_index].astype(np.float64))
    labels = answers[0].reshape(-1)
    return reference.categorical_column("prediction", np.array([str(job.classes[i]) for i in labels], object))


def _target(job: Job, train: pa.Table) -> tuple[Any, float]:
    if job.classify:
        values = np.array([str(v) for v in train[job.target].to_pylist()], object)
        return reference.categorical_column("target", values), 1.0
    values = rows.targets(train, job.target, ())
    return reference.numeric_column("target", values), float(np.std(values)) or 1.0
