"""Packages: a model with the proof that it answers as it was trained to."""

from typing import Literal

from pydantic import Field

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.dataset import Histogram, Reason
from tidemill_contracts.document import Document
from tidemill_contracts.names import Digest, EventId, Name, Version
from tidemill_contracts.pipeline import Scalar, Task


class Tensor(Document):
    """One tensor of the ONNX graph."""

    name: str
    datatype: Literal["FP32", "FP64", "INT64", "BYTES", "BOOL"]
    """Open Inference Protocol names."""
    shape: tuple[int, ...]
    """-1 is the batch dimension."""


class Signature(Document):
    """How to call the model: a numeric matrix and a string matrix in, labels and probabilities or values out."""

    task: Task
    numeric: tuple[str, ...]
    """Columns of the tensor ``numeric`` (float32, NaN is missing), in order."""
    categorical: tuple[str, ...]
    """Columns of the tensor ``categorical`` (strings, "" is missing), in order."""
    categories: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    unknown_categories: Literal["reject", "accept"] = "reject"
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    """Classification: ``label`` (class index, int64) and ``probabilities`` [rows, classes]; regression: ``value``."""
    target: str
    classes: tuple[Scalar, ...] = ()
    positive: Scalar = None
    threshold: float | None = None
    """Binary tasks answer the positive class from this probability on; None takes the most probable class."""


class GoldenPrediction(Document):
    """A row and the answer the trained model gave."""

    features: dict[str, Scalar]
    prediction: Scalar
    probabilities: tuple[float, ...] = ()


class Golden(Document):
    """Rows every holder of the package must be able to answer alike."""

    tolerance: float
    predictions: tuple[GoldenPrediction, ...] = Field(min_length=1)


class Parity(Document):
    """ONNX against the trained model on the same rows."""

    rows: int
    label_agreement: float
    metric: str
    trained: float
    packaged: float
    p999: float
    """99.9th percentile of |Δp| (or |Δvalue| over the target's standard deviation)."""
    maximum: float


class ReferenceColumn(Document):
    """A column as the model's training rows had it; the monitor compares production with this."""

    name: str
    kind: Literal["numeric", "categorical"]
    rows: int
    missing: int
    histogram: Histogram | None = None
    """Numeric: edges at quantiles of the training rows."""
    categories: dict[str, int] = Field(default_factory=dict)
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None
    longest_run: int | None = None
    """Numeric: the most rows in a row, in order of arrival, that had the same number."""
    outside: int | None = None
    """Numeric, of rows that were not trained on: values beyond the range of the training rows."""
    importance: float = 0.0
    importance_error: float = 0.0
    """Its standard error."""


class ReferenceSample(Document):
    """A few of the rows behind the reference, as bins: how the columns hang together."""

    columns: tuple[str, ...]
    """Those the model relies on most."""
    rows: int
    bins: str
    """Base64 of a byte a cell, row by row: the place of its bin or category in the column's counts, 254 for what comes
    later or is not listed, 255 for missing."""


class Reference(Document):
    """The reference window that travels with a package."""

    rows: int
    columns: tuple[ReferenceColumn, ...]
    prediction: ReferenceColumn
    """Of the model's own answers: probability of the positive class, predicted class, or value."""
    target: ReferenceColumn
    metric: str
    score: float
    """The primary metric on the validation split."""
    error: float
    """Mean error there: 1 - accuracy, or mean absolute error over the target's standard deviation."""
    error_rows: int
    target_scale: float = 1.0
    """Standard deviation of the target, for regression errors."""
    validation: tuple[ReferenceColumn, ...] = ()
    """The columns over the validation rows, counted between the edges of ``columns``."""
    sample: ReferenceSample | None = None


class Attestation(Document):
    """A DSSE envelope (Dead Simple Signing Envelope) around an in-toto statement."""

    payloadType: Literal["application/vnd.in-toto+json"] = "application/vnd.in-toto+json"  # noqa: N815 - DSSE's name
    payload: str
    """Base64 of the statement."""
    signatures: tuple[dict[str, str], ...]
    """``keyid`` and ``sig`` (base64, Ed25519 over the pre-authentication encoding)."""


class PackageManifest(Document):
    """A package: its files and everything it was made from. Signed as a whole."""

    kind: Literal["package"] = "package"
    pipeline: Name
    version: Version
    task: Task
    family: str
    files: dict[str, ArtifactRef]
    """``model.onnx``, ``signature.json``, ``golden.json``, ``reference.json``, ``parity.json``, …"""
    model: ArtifactRef
    """The model manifest."""
    dataset: ArtifactRef
    dataset_version: Version
    spec: ArtifactRef
    causes: tuple[EventId, ...]
    opset: int
    environment: dict[str, str]
    environment_lock: Digest
    """Digest of the versions of everything installed where the package was made."""
    code_version: str


class PackagedModel(Document):
    """Payload of ``model.packaged``."""

    pipeline: Name
    version: Version
    manifest: ArtifactRef
    attestation: ArtifactRef
    dataset_version: Version
    size: int
    parity: Parity
    seconds: float


class FailedPackaging(Document):
    """Payload of ``packaging.failed``."""

    pipeline: Name
    version: Version
    step: Literal["load", "convert", "parity", "golden", "reference", "sign", "replay"]
    reasons: tuple[Reason, ...] = Field(min_length=1)
