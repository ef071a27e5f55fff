"""Events as a person reads them: one line each."""

from typing import Any

from tidemill_contracts.envelope import Event

_ESSENTIALS = {
    "data.arrived.v1": ("origin", "rows", "note"),
    "dataset.prepared.v1": ("version", "new_rows", "quarantined", "rows"),
    "dataset.rejected.v1": ("reasons",),
    "training.requested.v1": ("reason",),
    "training.progressed.v1": ("stage", "trial", "trials", "family", "best"),
    "training.failed.v1": ("reasons",),
    "retrain.suppressed.v1": ("reason", "message"),
    "model.trained.v1": ("version", "family", "trigger", "rows", "seconds"),
    "model.packaged.v1": ("version", "size", "seconds"),
    "packaging.failed.v1": ("step", "reasons"),
    "model.validated.v1": ("version", "metrics"),
    "model.rejected.v1": ("version", "reasons"),
    "model.promoted.v1": ("version", "sequence", "kind", "reason"),
    "rollout.changed.v1": ("version", "stage", "share", "reason"),
    "trial.requested.v1": ("action", "trial", "by", "reason"),
    "model.deployed.v1": ("version", "instance", "seconds"),
    "drift.evaluated.v1": ("kind", "verdict", "score"),
    "drift.detected.v1": ("kind", "noticed_at", "began_at", "features"),
    "drift.resolved.v1": ("kind", "reason"),
    "data.broken.v1": ("kind", "column", "first", "message"),
    "data.mended.v1": ("kind", "column", "first", "last", "reason"),
    "performance.measured.v1": ("metric", "score", "coverage", "complete"),
    "performance.degraded.v1": ("metric", "score", "baseline"),
    "performance.recovered.v1": ("score", "rows_to_detect", "rows_to_retrain", "rows_to_recover", "seconds"),
    "prediction.completed.v1": ("prediction", "model_version"),
    "prediction.shadowed.v1": ("prediction", "error", "model_version"),
    "prediction.failed.v1": ("error", "message"),
    "batch.progressed.v1": ("batch", "parts", "rows", "total"),
    "batch.completed.v1": ("batch", "rows", "failed", "model_version", "seconds"),
    "batch.failed.v1": ("batch", "reasons"),
    "predictions.completed.v1": ("model_version", "refused"),
    "event.dead_lettered.v1": ("reason", "message"),
}


def line(event: Event[Any]) -> str:
    """Time, subject, type, and what matters of the payload."""
    data = event.data.model_dump(mode="json", exclude_none=True)
    fields = " ".join(f"{k}={_short(data[k])}" for k in _ESSENTIALS.get(event.type, ()) if k in data)
    return f"{event.time:%Y-%m-%d %H:%M:%S} {event.subject:<24} {event.type.rpartition('.v')[0]:<22} {fields}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "; ".join(str(v.get("message", v)) if isinstance(v, dict) else str(v) for v in value)
    if isinstance(value, dict):
        return ",".join(f"{k}:{_short(v)}" for k, v in value.items())
    return str(value)
