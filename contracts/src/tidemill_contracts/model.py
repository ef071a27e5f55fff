"""Models: selection, evaluation and the governor's decisions."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.dataset import Reason
from tidemill_contracts.document import Document
from tidemill_contracts.names import EventId, Name, Version
from tidemill_contracts.pipeline import Feature, Scalar, Task

Trigger = Literal["first_data", "new_data", "schedule", "drift", "performance", "operator"]
RowSet = Literal["since", "newest", "all", "weighted"]
"""Rows since a change alone; with as many of the newest older ones; with all; with all, weighted by age."""


class RowSelection(Document):
    """Which rows of a dataset version a model was (or is to be) trained on."""

    since: datetime | None = None
    """Only rows with this event time or later; None takes all."""
    newest: int | None = Field(default=None, ge=1)
    """At most this many of the newest of them."""


class RequestedTraining(Document):
    """Payload of ``training.requested``: a person or a program asks for a training."""

    reason: str = Field(default="", max_length=500)
    rows: RowSelection = RowSelection()
    force: bool = False
    """Skip the cool-down (never the single flight)."""


class GrantedTraining(Document):
    """Payload of ``training.granted``: the governor let a trigger become a training. The event's id is the run."""

    trigger: Trigger
    reason: str = Field(default="", max_length=500)
    rows: RowSelection = RowSelection()
    dataset: ArtifactRef
    """The dataset manifest to train on."""
    dataset_version: Version
    spec: ArtifactRef
    causes: tuple[EventId, ...] = ()
    """Ids of the events that asked for it; several when triggers were merged."""


class TrainingProgress(Document):
    """Payload of ``training.progressed``."""

    run: str
    stage: Literal["queued", "started", "searching", "fitting", "evaluating", "explaining", "storing"]
    trial: int | None = None
    trials: int | None = None
    family: str | None = None
    score: float | None = None
    best: float | None = None
    seconds: float = 0.0
    rows: RowSet | None = None
    """The row set that was chosen, or is tried; ``score`` is about it."""


class FailedTraining(Document):
    """Payload of ``training.failed``."""

    run: str
    trigger: Trigger
    dataset: Version
    reasons: tuple[Reason, ...] = Field(min_length=1)
    cpu_seconds: float | None = None
    """None: its process is gone, and nobody could measure."""


class ResumedRetraining(Document):
    """Payload of ``retraining.resumed``: a person lets a pipeline train by itself again after refused candidates."""

    by: str = Field(max_length=200)
    reason: str = Field(default="", max_length=500)


class SuppressedRetrain(Document):
    """Payload of ``retrain.suppressed``: a trigger that did not (or not yet) become a training."""

    trigger: Trigger
    reason: Literal[
        "in_flight",
        "cool_down",
        "coalesced",
        "waiting_for_rows",
        "mode",
        "suggested",
        "policy",
        "budget",
        "breaker_open",
        "no_dataset",
        "expired",
        "stale",
        "resolved",
    ]
    message: str
    queued: bool
    """True: the trigger is remembered and will be served later; False: it is dropped."""
    not_before: datetime | None = None


class CalibrationBin(Document):
    """Predicted against observed frequency (reliability diagram)."""

    predicted: float
    observed: float
    rows: int


class Evaluation(Document):
    """Scores on the validation split."""

    rows: int
    metrics: dict[str, float]
    baseline: dict[str, float]
    """The same metrics of the dummy model."""
    calibration: tuple[CalibrationBin, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    trials: tuple[dict[str, Scalar], ...] = ()
    """One entry a trial: family, score, seconds and hyper-parameters."""


class Importance(Document):
    """Permutation importance (Breiman 2001): loss of the primary metric when the column is shuffled."""

    feature: str
    mean: float
    std: float
    """Over shuffles."""
    error: float = 0.0
    """Standard error of the mean: other rows would have given another one."""


class Explanation(Document):
    """Global explanation of a model."""

    metric: str
    importances: tuple[Importance, ...]


class TriedRows(Document):
    """A row set the chosen model was fitted on, judged by the rows since the change that it had not seen."""

    rows: RowSet
    older: int
    """Rows from before the change among them."""
    score: float | None
    """The primary metric; None where it is undefined."""
    gain: float
    """How much smaller the mean loss of a row is than with ``since``: Brier's, squared or absolute error."""
    error: float
    """Standard error of the gain, paired by row."""


class RowChoice(Document):
    """Which rows a model learned from after a change, and the evidence."""

    taken: RowSet
    rule: str
    judged_rows: int
    tried: tuple[TriedRows, ...]


class ModelManifest(Document):
    """A trained model: its files, and everything it was made from."""

    kind: Literal["model"] = "model"
    pipeline: Name
    version: Version
    task: Task
    family: str
    parameters: dict[str, Scalar]
    features: tuple[Feature, ...]
    """In the order the model reads them: numeric ones first, then categorical ones."""
    categories: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Known categories of each categorical feature, from the training rows."""
    target: str
    classes: tuple[Scalar, ...] = ()
    positive: Scalar = None
    threshold: float | None = None
    """Decision threshold on the positive class's probability, for binary tasks."""
    files: dict[str, ArtifactRef]
    """``model.skops``, ``evaluation.json``, ``explanation.json``."""
    metrics: dict[str, float]
    dataset: ArtifactRef
    """The dataset manifest."""
    dataset_version: Version
    selection: RowSelection
    """The rows that stand for the world the model answers in: they judge it, and describe what it expects."""
    row_choice: RowChoice | None = None
    """What it learned from besides; None: from ``selection`` alone, without a comparison."""
    rows: dict[str, int]
    """Rows of the selection used, by split."""
    spec: ArtifactRef
    trigger: Trigger
    causes: tuple[EventId, ...]
    seed: int
    code_version: str
    environment: dict[str, str]
    """Versions of the libraries that made the model."""


class TrainedModel(Document):
    """Payload of ``model.trained``."""

    pipeline: Name
    version: Version
    manifest: ArtifactRef
    dataset_version: Version
    family: str
    metrics: dict[str, float]
    rows: dict[str, int]
    trigger: Trigger
    seconds: float
    cpu_seconds: float | None = None
    """Processor time of the training's process."""
