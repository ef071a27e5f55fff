"""What an operator declares about a use case: task, target, features, goals and policies."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.document import Document, content_version
from tidemill_contracts.names import RESERVED_PREFIX, Name, Version
from tidemill_contracts.rollout import RolloutPolicy

Task = Literal["classification", "regression"]
Kind = Literal["numeric", "categorical"]
Metric = Literal["accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "brier", "mae", "rmse", "r2"]
LOWER_IS_BETTER: frozenset[str] = frozenset({"log_loss", "brier", "mae", "rmse"})
CLASSIFICATION_METRICS: frozenset[str] = frozenset(
    {"accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "brier"}
)
Family = Literal["linear", "hist_gradient_boosting", "random_forest"]
Scalar = str | bool | int | float | None
"""A JSON value of one cell."""


def _present(value: Scalar) -> Scalar:
    if value is None:
        raise ValueError("null is not a value here")
    return value


Value = Annotated[
    Scalar,
    AfterValidator(_present),
    WithJsonSchema({"anyOf": [{"type": kind} for kind in ("string", "boolean", "integer", "number")]}),
]
"""A cell that must be there: a prediction, a label."""
ColumnName = Annotated[str, Field(min_length=1, max_length=128)]


class Feature(Document):
    """A column the model reads. ``numeric`` travels as a number or null, ``categorical`` as a string or null."""

    name: ColumnName
    kind: Kind


class SplitPolicy(Document):
    """Shares of rows. A row keeps its split in every later version: by time when the spec names a time column
    (oldest rows of each arrival train, newest test), else by a hash of the row's identity."""

    train: float = Field(default=0.7, gt=0, lt=1)
    validation: float = Field(default=0.15, gt=0, lt=1)
    test: float = Field(default=0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("split: train + validation + test must be 1")
        return self


class RowPolicy(Document):
    """Which accepted rows a dataset version holds: all of them, or the newest ``window_rows``."""

    keep: Literal["append", "sliding"] = "append"
    window_rows: int = Field(default=1_000_000, ge=100)
    min_rows: int = Field(default=100, ge=20)
    """Fewer usable rows than this in the whole version is a rejection."""
    max_missing: float = Field(default=0.95, gt=0, le=1)
    """A required feature with a larger share of missing cells in the first data set is dropped from the schema."""


class SearchPolicy(Document):
    """The budget of model selection."""

    families: tuple[Family, ...] = ("linear", "hist_gradient_boosting", "random_forest")
    trials: int = Field(default=12, ge=1, le=1000)
    seconds: float = Field(default=60.0, gt=0, le=86_400)
    seed: int = Field(default=0, ge=0)


class RetrainPolicy(Document):
    """When the governor lets a trigger become a training."""

    mode: Literal["observe", "suggest", "auto"] = "auto"
    """``observe`` never retrains by itself; ``suggest`` waits with what it would do until a person asks."""
    triggers: tuple[Literal["concept", "data", "prediction", "performance"], ...] = ("concept", "performance")
    """Kinds of drift that may retrain. Input drift alone is a warning unless named here."""
    min_rows: int = Field(default=500, ge=20)
    """Rows that must have arrived since the change was noticed."""
    max_rows: int | None = Field(default=None, ge=20)
    """At most this many of the newest rows since the change; None takes all of them."""
    rows: Literal["since", "evidence"] = "since"
    """What the answer to an alarm learns from: the rows ``since`` the change alone, or where there is ``evidence`` that
    they help older training rows too: as many of the newest, all, or all weighted by age."""
    settle_rows: int = Field(default=1_500, ge=0)
    """A change that was answered with fewer rows is answered once more when so many have arrived since; 0: never."""
    cool_down_seconds: float = Field(default=60.0, ge=0)
    """Between two trainings; doubled by each candidate that is refused, until one is accepted."""
    new_rows: int | None = Field(default=None, ge=1)
    """Also retrain after this many rows from outside since the last training; None: not by their number."""
    every_seconds: float | None = Field(default=None, ge=60)
    """Also retrain so long after the last training; None: not by the clock."""
    trainings_a_day: int | None = Field(default=24, ge=1)
    """Trainings that may begin by themselves within 24 hours of each other; None: no bound."""
    cpu_seconds_a_day: float | None = Field(default=14_400.0, gt=0)
    """Processor time after which no further training begins by itself within 24 hours; None: no bound."""
    breaker_refusals: int = Field(default=3, ge=0)
    """After so many refused answers to one alarm, or twice as many refused candidates in a row, a person decides about
    the next training; 0: never."""
    wait_seconds: float = Field(default=7 * 86_400.0, gt=0)
    """A trigger that finds too few rows for this long is dropped with a reason."""


class PromotionPolicy(Document):
    """When a validated model becomes champion."""

    approval: Literal["automatic", "person"] = "automatic"
    goals: dict[Metric, float] = Field(default_factory=dict)
    """Bounds on the test split: at least, or for losses and errors at most."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    margin: float = Field(default=0.01, ge=0)
    """A challenger may be worse than the champion by at most this much of the primary metric."""
    newest_rows: int = Field(default=2_000, ge=20)
    """Champion and challenger are compared on at most this many of the newest unseen rows."""
    costs: dict[str, dict[str, float]] | None = None
    """What an answer costs: ``costs[truth][answer]``, classes as text. Champion and challenger are then compared by
    their mean cost instead of the primary metric; what is not stated is 0 for a right answer and 1 for a wrong one."""
    slices: tuple[ColumnName, ...] = ()
    """Features by whose values (numbers: by their quarters) the rows are cut; a challenger that is surely worse than
    the champion on a part is refused."""
    slice_rows: int = Field(default=50, ge=20)
    """Parts with fewer rows say nothing."""
    slice_margin: float = Field(default=0.1, ge=0)
    """Worse by more than this share of the champion's mean loss over all rows."""
    bake_rows: int = Field(default=1_000, ge=0)
    """Labelled rows after a decision that judge it again: a new champion that proves worse than the one before gives
    its place back, a refused candidate that proves better gets it; 0: decisions stand."""
    anchor: Literal["automatic", "person", "off"] = "automatic"
    """No challenger may be clearly worse than the anchor on the golden set, unless the world has changed. The first
    champion is the anchor; then each that answered an alarm and kept its place for ``bake_rows`` rows (``automatic``),
    or only what a person anchors (``person``)."""
    max_latency_ms: float = Field(default=50.0, gt=0)
    """Median time of a single row."""
    max_batch_latency_ms: float = Field(default=1_000.0, gt=0)
    """Median time of 1 000 rows."""


class DriftPolicy(Document):
    """How the monitor judges. Thresholds of the tests are derived from the reference, not set here."""

    window_rows: int = Field(default=500, ge=50)
    min_rows: int = Field(default=100, ge=20)
    """Smaller windows are ``insufficient_data``."""
    false_alarm_rate: float = Field(default=0.01, gt=0, lt=0.5)
    """Of a window, over all its columns together."""
    consecutive: int = Field(default=2, ge=1, le=10)
    """Windows beyond the threshold before ``drift``; fewer are ``warning``. In a row, or among the last ``among``."""
    among: int | None = Field(default=None, ge=1, le=50)
    """``consecutive`` of so many windows are enough; None: in a row."""
    window_seconds: float | None = Field(default=None, gt=0)
    """Windows by event time instead of by rows; None: by ``window_rows``."""
    lateness_seconds: float = Field(default=3_600.0, ge=0)
    """How far the watermark lies behind the newest event time. Rows beyond it are late."""
    references: tuple[Literal["training", "validation", "previous", "season"], ...] = Field(
        default=("training",), min_length=1
    )
    """What windows are compared with: the rows the model was trained on, those it has not seen (validation), the
    window before, or the window of the same place in the season before. The first decides about drift, the others are
    reported beside it."""
    season_seconds: float | None = Field(default=None, gt=0)
    """Length of a season; a multiple of ``window_seconds``."""
    label_seconds: float = Field(default=7 * 86_400.0, gt=0)
    """A window is measured when all its labels are in, or so long after it closed."""
    error_delta: float = Field(default=0.05, gt=0, lt=1)
    """ADWIN's confidence parameter for the alarm on errors."""
    recovered_share: float = Field(default=0.95, gt=0, le=1)
    """Recovered when the windowed score is back at this share of the best baseline."""
    feedback: bool = True
    """Send labelled production rows back as new data."""
    feedback_rows: int = Field(default=1_000, ge=1)
    feedback_seconds: float = Field(default=30.0, gt=0)
    """Send them when this many are there, or when the oldest has waited this long."""

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        if self.among is not None and self.among < self.consecutive:
            raise ValueError("drift: among must be at least consecutive")
        if self.window_seconds and self.lateness_seconds > 8 * self.window_seconds:
            raise ValueError("drift: lateness_seconds must be at most 8 windows; each late window is kept open")
        if "season" in self.references:
            if not self.window_seconds or not self.season_seconds:
                raise ValueError("drift: a season needs window_seconds and season_seconds")
            windows = self.season_seconds / self.window_seconds
            if abs(windows - round(windows)) > 1e-6 or not 1 <= windows <= 400:
                raise ValueError("drift: season_seconds must be 1 to 400 times window_seconds")
        return self


class PipelineSpec(Document):
    """A use case. ``version`` is a digest of the content; ``revision`` orders the declared versions."""

    name: Name
    revision: int = Field(default=1, ge=1)
    description: str = Field(default="", max_length=2000)
    task: Task
    target: ColumnName
    positive: Scalar = None
    """The positive class of a binary target; None takes the last class in sorted order."""
    primary: Metric
    features: tuple[Feature, ...] | None = None
    """None: inferred from the first data set and fixed from then on."""
    exclude: tuple[ColumnName, ...] = ()
    """Columns that are neither features nor target (names, identifiers)."""
    keys: tuple[ColumnName, ...] = ()
    """Columns that identify a row; without them a row is identified by all its cells."""
    time: ColumnName | None = None
    """A column of ISO 8601 dates or times. Names a time-ordered split."""
    unknown_categories: Literal["reject", "accept"] = "reject"
    """What a prediction request with a category that training never saw gets."""
    split: SplitPolicy = SplitPolicy()
    rows: RowPolicy = RowPolicy()
    search: SearchPolicy = SearchPolicy()
    retrain: RetrainPolicy = RetrainPolicy()
    promotion: PromotionPolicy = PromotionPolicy()
    rollout: RolloutPolicy = RolloutPolicy()
    drift: DriftPolicy = DriftPolicy()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        metrics = {self.primary, *self.promotion.goals}
        wrong = {m for m in metrics if (m in CLASSIFICATION_METRICS) != (self.task == "classification")}
        if wrong:
            raise ValueError(f"metrics {sorted(wrong)} do not fit a {self.task} task")
        named = [f.name for f in self.features or ()]
        unknown = sorted(set(self.promotion.slices) - set(named)) if self.features else []
        if unknown:
            raise ValueError(f"promotion.slices: {unknown} are no features")
        if self.promotion.costs and self.task != "classification":
            raise ValueError("promotion.costs: a regression has no classes; its errors are its costs")
        if len(set(named)) != len(named):
            raise ValueError("features: a name appears twice")
        if self.target in named or self.target in self.exclude:
            raise ValueError(f"target {self.target!r} cannot be a feature or excluded")
        for column in (*named, *self.exclude, *self.keys, self.target, *([self.time] if self.time else [])):
            if column.startswith(RESERVED_PREFIX):
                raise ValueError(f"column {column!r}: names starting with {RESERVED_PREFIX!r} are reserved")
        return self

    @property
    def version(self) -> str:
        """The first 12 hex of the digest of the canonical JSON."""
        return content_version(self.to_json())


class DeclaredPipeline(Document):
    """Payload of ``pipeline.declared``."""

    version: Version
    spec: PipelineSpec
    ref: ArtifactRef
