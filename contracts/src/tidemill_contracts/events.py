"""Every event, once. The order is the order in which they appear in the documentation."""

from typing import Any, ClassVar, Literal

from tidemill_contracts.batch import BatchProgress, CompletedBatch, FailedBatch, RequestedBatch
from tidemill_contracts.dataset import ArrivedData, PreparedDataset, RejectedDataset
from tidemill_contracts.dead_letter import DeadLetter
from tidemill_contracts.drift import (
    BrokenData,
    DegradedPerformance,
    DetectedDrift,
    EvaluatedDrift,
    MeasuredPerformance,
    MendedData,
    RecoveredPerformance,
    ResolvedDrift,
)
from tidemill_contracts.envelope import Event, child_id
from tidemill_contracts.model import (
    FailedTraining,
    GrantedTraining,
    RequestedTraining,
    ResumedRetraining,
    SuppressedRetrain,
    TrainedModel,
    TrainingProgress,
)
from tidemill_contracts.package import FailedPackaging, PackagedModel
from tidemill_contracts.pipeline import DeclaredPipeline
from tidemill_contracts.prediction import (
    CompletedPrediction,
    CompletedPredictions,
    FailedPrediction,
    ObservedLabel,
    RequestedPrediction,
    RequestedPredictions,
    ShadowedPrediction,
)
from tidemill_contracts.promotion import (
    AnchoredModel,
    ApprovedModel,
    DeployedModel,
    PromotedModel,
    RejectedModel,
    RequestedAnchor,
    RequestedRollback,
    ValidatedModel,
)
from tidemill_contracts.rollout import ChangedRollout, ObservedRollout, RequestedTrial
from tidemill_contracts.table import AnsweredRows, CompletedTable, FailedTable, RequestedTable

_Plane = Literal["control", "data"]


def _envelope(event: Event[Any]) -> dict[str, Any]:
    """What the events of a table's rows share."""
    names = ("source", "subject", "time", "correlationid", "causationid", "traceparent")
    return {name: getattr(event, name) for name in names}


class PipelineDeclared(Event[DeclaredPipeline]):
    """An operator declared a pipeline or a new revision of one."""

    publishers: ClassVar[tuple[str, ...]] = ("operator",)
    consumers: ClassVar[tuple[str, ...]] = (
        "ingestion",
        "training",
        "packaging",
        "validation",
        "serving",
        "monitoring",
    )
    type: Literal["pipeline.declared.v1"] = "pipeline.declared.v1"


class DataArrived(Event[ArrivedData]):
    """A file of new rows waits in the object store."""

    publishers: ClassVar[tuple[str, ...]] = ("producer", "monitoring", "ingestion")
    consumers: ClassVar[tuple[str, ...]] = ("ingestion",)
    type: Literal["data.arrived.v1"] = "data.arrived.v1"


class DatasetPrepared(Event[PreparedDataset]):
    """New rows became a dataset version."""

    publishers: ClassVar[tuple[str, ...]] = ("ingestion",)
    consumers: ClassVar[tuple[str, ...]] = ("training", "validation")
    type: Literal["dataset.prepared.v1"] = "dataset.prepared.v1"


class DatasetRejected(Event[RejectedDataset]):
    """A file was refused as a whole."""

    publishers: ClassVar[tuple[str, ...]] = ("ingestion",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    type: Literal["dataset.rejected.v1"] = "dataset.rejected.v1"


class TrainingRequested(Event[RequestedTraining]):
    """A person or a program asks for a training."""

    publishers: ClassVar[tuple[str, ...]] = ("operator",)
    consumers: ClassVar[tuple[str, ...]] = ("training",)
    type: Literal["training.requested.v1"] = "training.requested.v1"


class RetrainingResumed(Event[ResumedRetraining]):
    """A person closes the circuit breaker that refused candidates have opened."""

    publishers: ClassVar[tuple[str, ...]] = ("operator",)
    consumers: ClassVar[tuple[str, ...]] = ("training",)
    type: Literal["retraining.resumed.v1"] = "retraining.resumed.v1"


class TrainingGranted(Event[GrantedTraining]):
    """The governor let a trigger become a training; whoever takes this event trains."""

    publishers: ClassVar[tuple[str, ...]] = ("training",)
    consumers: ClassVar[tuple[str, ...]] = ("training",)
    type: Literal["training.granted.v1"] = "training.granted.v1"


class TrainingProgressed(Event[TrainingProgress]):
    """A running training says how far it is."""

    publishers: ClassVar[tuple[str, ...]] = ("training",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    type: Literal["training.progressed.v1"] = "training.progressed.v1"


class TrainingFailed(Event[FailedTraining]):
    """A training ended without a model."""

    publishers: ClassVar[tuple[str, ...]] = ("training",)
    consumers: ClassVar[tuple[str, ...]] = ("operator", "training")
    type: Literal["training.failed.v1"] = "training.failed.v1"


class RetrainSuppressed(Event[SuppressedRetrain]):
    """The governor refused or postponed a trigger, with its reason."""

    publishers: ClassVar[tuple[str, ...]] = ("training",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    type: Literal["retrain.suppressed.v1"] = "retrain.suppressed.v1"


class ModelTrained(Event[TrainedModel]):
    """A model was selected, fitted and evaluated."""

    publishers: ClassVar[tuple[str, ...]] = ("training",)
    consumers: ClassVar[tuple[str, ...]] = ("packaging", "training")
    type: Literal["model.trained.v1"] = "model.trained.v1"


class ModelPackaged(Event[PackagedModel]):
    """A model became a signed package that replayed its golden predictions in a clean process."""

    publishers: ClassVar[tuple[str, ...]] = ("packaging",)
    consumers: ClassVar[tuple[str, ...]] = ("validation",)
    type: Literal["model.packaged.v1"] = "model.packaged.v1"


class PackagingFailed(Event[FailedPackaging]):
    """A model could not be proven as a package."""

    publishers: ClassVar[tuple[str, ...]] = ("packaging",)
    consumers: ClassVar[tuple[str, ...]] = ("operator", "training")
    type: Literal["packaging.failed.v1"] = "packaging.failed.v1"


class ModelValidated(Event[ValidatedModel]):
    """A package passed every gate on rows training never read."""

    publishers: ClassVar[tuple[str, ...]] = ("validation",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    type: Literal["model.validated.v1"] = "model.validated.v1"


class ModelRejected(Event[RejectedModel]):
    """A package failed a gate or did not beat the champion."""

    publishers: ClassVar[tuple[str, ...]] = ("validation",)
    consumers: ClassVar[tuple[str, ...]] = ("operator", "training")
    type: Literal["model.rejected.v1"] = "model.rejected.v1"


class ModelApproved(Event[ApprovedModel]):
    """A person approved a validated model, where the pipeline asks for one."""

    publishers: ClassVar[tuple[str, ...]] = ("operator",)
    consumers: ClassVar[tuple[str, ...]] = ("validation",)
    type: Literal["model.approved.v1"] = "model.approved.v1"


class RollbackRequested(Event[RequestedRollback]):
    """A person asks for an older champion."""

    publishers: ClassVar[tuple[str, ...]] = ("operator",)
    consumers: ClassVar[tuple[str, ...]] = ("validation",)
    type: Literal["rollback.requested.v1"] = "rollback.requested.v1"


class AnchorRequested(Event[RequestedAnchor]):
    """A person makes the present champion the anchor."""

    publishers: ClassVar[tuple[str, ...]] = ("operator",)
    consumers: ClassVar[tuple[str, ...]] = ("validation",)
    type: Literal["anchor.requested.v1"] = "anchor.requested.v1"


class ModelAnchored(Event[AnchoredModel]):
    """A model and its frozen rows are what later challengers are measured by."""

    publishers: ClassVar[tuple[str, ...]] = ("validation",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    type: Literal["model.anchored.v1"] = "model.anchored.v1"


class ModelPromoted(Event[PromotedModel]):
    """The registry has a new champion."""

    publishers: ClassVar[tuple[str, ...]] = ("validation",)
    consumers: ClassVar[tuple[str, ...]] = ("serving", "monitoring", "training")
    type: Literal["model.promoted.v1"] = "model.promoted.v1"


class ModelDeployed(Event[DeployedModel]):
    """The champion is loaded and answered its golden requests."""

    publishers: ClassVar[tuple[str, ...]] = ("serving",)
    consumers: ClassVar[tuple[str, ...]] = ("monitoring",)
    type: Literal["model.deployed.v1"] = "model.deployed.v1"


class RolloutChanged(Event[ChangedRollout]):
    """A challenger began to be tried beside the champion, goes on to its next stage, or its trial ended, and why."""

    publishers: ClassVar[tuple[str, ...]] = ("validation",)
    consumers: ClassVar[tuple[str, ...]] = ("serving",)
    type: Literal["rollout.changed.v1"] = "rollout.changed.v1"


class TrialRequested(Event[RequestedTrial]):
    """A person hastens or ends what is tried beside the champion."""

    publishers: ClassVar[tuple[str, ...]] = ("operator",)
    consumers: ClassVar[tuple[str, ...]] = ("validation",)
    type: Literal["trial.requested.v1"] = "trial.requested.v1"


class RolloutObserved(Event[ObservedRollout]):
    """How champion and challenger of a trial did so far, as one serving process counted."""

    publishers: ClassVar[tuple[str, ...]] = ("serving",)
    consumers: ClassVar[tuple[str, ...]] = ("validation",)
    type: Literal["rollout.observed.v1"] = "rollout.observed.v1"


class PredictionRequested(Event[RequestedPrediction]):
    """Somebody wants a prediction; the event's id is the prediction id."""

    publishers: ClassVar[tuple[str, ...]] = ("producer",)
    consumers: ClassVar[tuple[str, ...]] = ("serving", "monitoring")
    plane: ClassVar[_Plane] = "data"
    type: Literal["prediction.requested.v1"] = "prediction.requested.v1"


class PredictionCompleted(Event[CompletedPrediction]):
    """A prediction, stamped with the model and dataset that made it."""

    publishers: ClassVar[tuple[str, ...]] = ("serving",)
    consumers: ClassVar[tuple[str, ...]] = ("consumer", "monitoring")
    plane: ClassVar[_Plane] = "data"
    type: Literal["prediction.completed.v1"] = "prediction.completed.v1"


class PredictionFailed(Event[FailedPrediction]):
    """A request that could not be answered, and why."""

    publishers: ClassVar[tuple[str, ...]] = ("serving",)
    consumers: ClassVar[tuple[str, ...]] = ("consumer", "monitoring")
    plane: ClassVar[_Plane] = "data"
    type: Literal["prediction.failed.v1"] = "prediction.failed.v1"


class PredictionShadowed(Event[ShadowedPrediction]):
    """What a challenger in its shadow stage would have answered; nobody gets it for an answer."""

    publishers: ClassVar[tuple[str, ...]] = ("serving",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    plane: ClassVar[_Plane] = "data"
    type: Literal["prediction.shadowed.v1"] = "prediction.shadowed.v1"


class BatchRequested(Event[RequestedBatch]):
    """Somebody wants the rows of a file scored; the event's id is the batch's id."""

    publishers: ClassVar[tuple[str, ...]] = ("operator",)
    consumers: ClassVar[tuple[str, ...]] = ("serving",)
    type: Literal["batch.requested.v1"] = "batch.requested.v1"


class BatchProgressed(Event[BatchProgress]):
    """A part of a batch is finished and stored."""

    publishers: ClassVar[tuple[str, ...]] = ("serving",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    type: Literal["batch.progressed.v1"] = "batch.progressed.v1"


class BatchCompleted(Event[CompletedBatch]):
    """Every row of a batch has its result."""

    publishers: ClassVar[tuple[str, ...]] = ("serving",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    type: Literal["batch.completed.v1"] = "batch.completed.v1"


class BatchFailed(Event[FailedBatch]):
    """A file cannot be scored, and why."""

    publishers: ClassVar[tuple[str, ...]] = ("serving",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    type: Literal["batch.failed.v1"] = "batch.failed.v1"


def _requests(event: Event[Any], table: RequestedPredictions) -> list[PredictionRequested]:
    shared = _envelope(event)
    return [PredictionRequested.model_construct(**shared, id=id_, data=row) for id_, row in table.rows()]


def _answers(event: Event[Any], table: CompletedPredictions) -> list[PredictionCompleted | PredictionFailed]:
    shared = _envelope(event)
    found: list[PredictionCompleted | PredictionFailed] = []
    for row in table.completed():
        id_ = child_id(row.prediction_id, PredictionCompleted.type_name(), event.subject)
        found.append(PredictionCompleted.model_construct(**shared, id=id_, data=row))
    for refusal in table.failed():
        id_ = child_id(refusal.prediction_id, PredictionFailed.type_name(), event.subject)
        found.append(PredictionFailed.model_construct(**shared, id=id_, data=refusal))
    return found


class PredictionsRequested(Event[RequestedPredictions]):
    """Somebody wants predictions for a table: many rows as columns, each with its own prediction id."""

    publishers: ClassVar[tuple[str, ...]] = ("producer",)
    consumers: ClassVar[tuple[str, ...]] = ("serving", "monitoring")
    plane: ClassVar[_Plane] = "data"
    type: Literal["predictions.requested.v1"] = "predictions.requested.v1"

    def each(self) -> list[PredictionRequested]:
        """What each row would have been as an event of its own."""
        return _requests(self, self.data)


class PredictionsCompleted(Event[CompletedPredictions]):
    """The answer to a table: a prediction, or a reason why there is none, for each of its rows."""

    publishers: ClassVar[tuple[str, ...]] = ("serving",)
    consumers: ClassVar[tuple[str, ...]] = ("consumer", "monitoring")
    plane: ClassVar[_Plane] = "data"
    type: Literal["predictions.completed.v1"] = "predictions.completed.v1"

    def each(self) -> list[PredictionCompleted | PredictionFailed]:
        """What the answer to each row would have been as an event of its own."""
        return _answers(self, self.data)


class TableRequested(Event[RequestedTable]):
    """Somebody wants predictions for a large table, an Arrow object in the bucket; the event's id is the table's id."""

    publishers: ClassVar[tuple[str, ...]] = ("producer",)
    consumers: ClassVar[tuple[str, ...]] = ("serving",)
    plane: ClassVar[_Plane] = "data"
    type: Literal["table.requested.v1"] = "table.requested.v1"


class TableCompleted(Event[CompletedTable]):
    """The answers to a large table lie in the bucket as another Arrow object."""

    publishers: ClassVar[tuple[str, ...]] = ("serving",)
    consumers: ClassVar[tuple[str, ...]] = ("consumer", "monitoring")
    plane: ClassVar[_Plane] = "data"
    type: Literal["table.completed.v1"] = "table.completed.v1"


class RowsAnswered(Event[AnsweredRows]):
    """A piece of a large table with its answers, as the monitor tells itself."""

    publishers: ClassVar[tuple[str, ...]] = ("monitoring",)
    consumers: ClassVar[tuple[str, ...]] = ("monitoring",)
    plane: ClassVar[_Plane] = "data"
    type: Literal["rows.answered.v1"] = "rows.answered.v1"

    def each(self) -> list[PredictionRequested | PredictionCompleted | PredictionFailed]:
        """What each row, and the answer to it, would have been as an event of its own; requests first."""
        return [*_requests(self, self.data.requested), *_answers(self, self.data.answered)]


class TableFailed(Event[FailedTable]):
    """A large table that could not be read, and why."""

    publishers: ClassVar[tuple[str, ...]] = ("serving",)
    consumers: ClassVar[tuple[str, ...]] = ("consumer",)
    plane: ClassVar[_Plane] = "data"
    type: Literal["table.failed.v1"] = "table.failed.v1"


class LabelObserved(Event[ObservedLabel]):
    """The truth about an earlier prediction."""

    publishers: ClassVar[tuple[str, ...]] = ("producer",)
    consumers: ClassVar[tuple[str, ...]] = ("monitoring",)
    plane: ClassVar[_Plane] = "data"
    type: Literal["label.observed.v1"] = "label.observed.v1"


class DriftEvaluated(Event[EvaluatedDrift]):
    """A window closed, with its verdict."""

    publishers: ClassVar[tuple[str, ...]] = ("monitoring",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    type: Literal["drift.evaluated.v1"] = "drift.evaluated.v1"


class DriftDetected(Event[DetectedDrift]):
    """The state changed to drift."""

    publishers: ClassVar[tuple[str, ...]] = ("monitoring",)
    consumers: ClassVar[tuple[str, ...]] = ("training",)
    type: Literal["drift.detected.v1"] = "drift.detected.v1"


class DriftResolved(Event[ResolvedDrift]):
    """The state left drift."""

    publishers: ClassVar[tuple[str, ...]] = ("monitoring",)
    consumers: ClassVar[tuple[str, ...]] = ("operator", "training")
    type: Literal["drift.resolved.v1"] = "drift.resolved.v1"


class DataBroken(Event[BrokenData]):
    """The data are wrong: alarmed, and kept away from training."""

    publishers: ClassVar[tuple[str, ...]] = ("monitoring",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    type: Literal["data.broken.v1"] = "data.broken.v1"


class DataMended(Event[MendedData]):
    """A break of the data is over."""

    publishers: ClassVar[tuple[str, ...]] = ("monitoring",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    type: Literal["data.mended.v1"] = "data.mended.v1"


class PerformanceMeasured(Event[MeasuredPerformance]):
    """The labels of a window are in: its score."""

    publishers: ClassVar[tuple[str, ...]] = ("monitoring",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    type: Literal["performance.measured.v1"] = "performance.measured.v1"


class PerformanceDegraded(Event[DegradedPerformance]):
    """Realized performance fell below the baseline."""

    publishers: ClassVar[tuple[str, ...]] = ("monitoring",)
    consumers: ClassVar[tuple[str, ...]] = ("training",)
    type: Literal["performance.degraded.v1"] = "performance.degraded.v1"


class PerformanceRecovered(Event[RecoveredPerformance]):
    """The score is back, with how long it took."""

    publishers: ClassVar[tuple[str, ...]] = ("monitoring",)
    consumers: ClassVar[tuple[str, ...]] = ("operator", "training")
    type: Literal["performance.recovered.v1"] = "performance.recovered.v1"


class EventDeadLettered(Event[DeadLetter]):
    """An event nobody could handle was set aside."""

    publishers: ClassVar[tuple[str, ...]] = ("any service",)
    consumers: ClassVar[tuple[str, ...]] = ("operator",)
    type: Literal["event.dead_lettered.v1"] = "event.dead_lettered.v1"
