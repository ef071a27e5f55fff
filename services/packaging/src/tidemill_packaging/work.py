"""The body of packaging, run in a child process. Its imports are inside, so that the parent stays small."""

from collections.abc import Callable
from typing import Any

from tidemill_packaging.job import Job, Packed, Unpackable

PRELOAD = (
    "tidemill_packaging.domain.trusted",
    "tidemill_packaging.domain.conversion",
    "tidemill_packaging.domain.parity",
    "tidemill_packaging.domain.runtime",
    "tidemill_packaging.domain.rows",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.compose",
)
_LABELS, _METRIC = 0.999, 0.001
"""What parity asks for: agreement of labels, and difference of the primary metric."""


def pack(job: Job, progress: Callable[[Any], None]) -> Packed | Unpackable:
    """Load, convert, compare, and describe. Writes ``model.onnx`` into the folder."""
    import numpy as np
    import pandas as pd

    from tidemill_packaging.domain import conversion, parity, reference, rows, trusted
    from tidemill_packaging.domain.runtime import Packaged

    try:
        model = trusted.read(job.model)
    except Exception as error:
        return Unpackable("load", "unreadable", f"{type(error).__name__}: {error}")
    classify = job.task == "classification"
    try:
        onnx = conversion.convert(
            model,
            numeric=len(job.numeric),
            categorical=len(job.categorical),
            classify=classify,
            opset=job.opset,
        )
        packaged = Packaged(onnx)
    except Exception as error:
        return Unpackable("convert", "unconvertible", f"{type(error).__name__}: {error}")
    (job.folder / "model.onnx").write_bytes(onnx)

    train = rows.read(job.train, job.from_ordinal, job.since, min(job.newest or job.reference_rows, job.reference_rows))
    validation = rows.read(job.validation, job.from_ordinal, job.since, job.newest)
    if not len(train):
        return Unpackable("parity", "no_rows", "the model's training rows cannot be found")
    judged = validation if len(validation) >= 20 else train
    pool = pd.concat([train, validation]).tail(max(job.parity_rows, len(validation)))
    numbers, strings = rows.layout(pool, job.numeric, job.categorical)
    n = len(pool)
    numbers, strings, source = rows.enlarge(numbers, strings, job.parity_rows, job.seed)
    y_pool = _targets(pool, job)[source]
    own = rows.as_trained(numbers, strings, job.numeric, job.categorical)
    answers = packaged.run(numbers, strings)
    positive = job.classes.index(job.positive) if job.positive in job.classes else max(0, len(job.classes) - 1)
    if classify:
        trained: Any = np.zeros((len(own), len(job.classes)))
        known = model.classes_.astype(int)
        trained[:, known] = model.predict_proba(own)
        p = np.zeros_like(trained)
        p[:, known] = answers[1]
        if len(known) != len(job.classes):
            return Unpackable("parity", "missing_class", "the model's training rows lack a class of the dataset")
        agreement = parity.classifiers(y_pool, trained, p, answers[0].reshape(-1), job.metric, positive)
    else:
        trained = np.asarray(model.predict(own), np.float64).reshape(-1)
        agreement = parity.regressors(y_pool, trained, answers[0].reshape(-1).astype(np.float64), job.metric)
    if agreement.label_agreement < _LABELS or abs(agreement.trained - agreement.packaged) > _METRIC:
        return Unpackable(
            "parity",
            "disagreement",
            f"on {len(own)} rows package and trained model agree on {agreement.label_agreement:.4%} of labels "
            f"({_LABELS:.1%} needed), {job.metric} {agreement.packaged:.4f} instead of {agreement.trained:.4f}",
        )

    progress({"stage": "reference"})
    chosen = _diverse(n, len(own), job.golden_rows)
    golden = tuple(
        (
            _features(numbers[i], strings[i], job),
            job.classes[int(trained[i].argmax())] if classify else float(trained[i]),
            tuple(float(v) for v in trained[i]) if classify else (),
        )
        for i in chosen
    )
    frame_numbers, frame_strings = rows.layout(train, job.numeric, job.categorical)
    columns = [reference.numeric_column(c, frame_numbers[:, i]) for i, c in enumerate(job.numeric)]
    columns += [reference.categorical_column(c, frame_strings[:, i]) for i, c in enumerate(job.categorical)]
    judged_answers = packaged.run(*rows.layout(judged, job.numeric, job.categorical))
    y = _targets(judged, job)
    if classify:
        scores = judged_answers[1]
        labels = judged_answers[0].reshape(-1)
        found = parity.classifiers(y, scores, scores, labels, job.metric, positive)
        mean_error, scale = float((labels != y).mean()), 1.0
        if len(job.classes) == 2:
            prediction = reference.numeric_column("prediction", scores[:, positive])
        else:
            prediction = reference.categorical_column("prediction", np.array([str(job.classes[i]) for i in labels]))
        target = reference.categorical_column("target", np.array([str(v) for v in train[job.target]]))
    else:
        values = judged_answers[0].reshape(-1).astype(np.float64)
        found = parity.regressors(y, values, values, job.metric)
        scale = float(np.std(_targets(train, job))) or 1.0
        mean_error = float(np.abs(values - y).mean() / scale)
        prediction = reference.numeric_column("prediction", values)
        target = reference.numeric_column("target", _targets(train, job))
    unit = float(y.std() or 1.0) if job.metric in ("mae", "rmse") else 1.0
    return Packed(
        label_agreement=agreement.label_agreement,
        trained=agreement.trained,
        packaged=agreement.packaged,
        p999=agreement.p999,
        maximum=agreement.maximum,
        rows=len(own),
        golden=golden,
        columns=tuple(columns),
        prediction=prediction,
        target=target,
        score=found.packaged * unit,
        error=mean_error,
        error_rows=len(y),
        target_scale=scale,
        inputs=tuple((name, _datatype(t), _shape(s)) for name, t, s in packaged.inputs),
        outputs=tuple((name, _datatype(t), _shape(s)) for name, t, s in packaged.outputs),
    )


def _targets(frame: Any, job: Job) -> Any:
    if job.task == "classification":
        codes = {label: i for i, label in enumerate(job.classes)}
        return frame[job.target].map(codes).to_numpy("int64")
    return frame[job.target].to_numpy("float64")


def _diverse(real: int, total: int, count: int) -> list[int]:
    """Half of the golden rows are real ones, evenly spread; half are drawn ones, where missing values lie."""
    half = max(1, count // 2)
    step = max(1, real // half)
    chosen = list(range(0, real, step))[:half]
    return chosen + list(range(real, min(total, real + count - len(chosen))))


def _features(numbers: Any, strings: Any, job: Job) -> dict[str, Any]:
    features: dict[str, Any] = {
        c: None if numbers[i] != numbers[i] else float(numbers[i]) for i, c in enumerate(job.numeric)
    }
    return features | {c: strings[i] or None for i, c in enumerate(job.categorical)}


def _datatype(onnx_type: str) -> str:
    return {"tensor(float)": "FP32", "tensor(string)": "BYTES", "tensor(int64)": "INT64", "tensor(double)": "FP64"}[
        onnx_type
    ]


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) else -1 for d in shape)
