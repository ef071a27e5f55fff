"""Settings of the server."""

from pathlib import Path

from pydantic import Field

from tidemill_shared.settings import Group, Settings


class ServingGroup(Group):
    """Group ``TIDEMILL_SERVING__``."""

    max_batch: int = Field(default=512, ge=1, le=10_000)
    """Requests taken from the streams at once."""
    refresh_seconds: float = Field(default=30.0, gt=0, le=3600)
    """How often the registry is looked at for promotions whose event never came."""
    observe_seconds: float = Field(default=1.0, ge=0.05, le=3600)
    """How often it is told what champion and challenger of a rollout did."""
    canary_seconds: float = Field(default=1.0, gt=0, le=60)
    """A request of a canary waits so long for the challenger; then the champion answers it."""
    max_rows: int = Field(default=10_000, ge=1, le=1_000_000)
    """Rows of one HTTP request, at most."""
    explain_rows: int = Field(default=16, ge=1, le=1_000)
    """Rows of one request for explanations, at most."""
    max_body_bytes: int = Field(default=16 * 1024**2, ge=1024)
    """Size of one HTTP request's body, at most."""
    threads: int = Field(default=1, ge=1, le=64)
    """Threads ONNX Runtime may use for one call."""
    batch_part_rows: int = Field(default=262_144, ge=1, le=10_000_000)
    """Rows of one part of a batch's results: after a crash at most one part is scored again."""
    batch_directory: Path | None = None
    """Where a batch's input and the part at hand lie meanwhile; None is the system's temporary folder."""
    table_bytes: int = Field(default=32 * 1024**2, ge=1024)
    """Size of a large table's Arrow object, at most."""
    table_rows: int = Field(default=200_000, ge=1, le=10_000_000)
    """Rows of a large table, at most."""
    model_bytes: int = Field(default=1024**3, ge=1024**2)
    """Memory for loaded models, about. Beyond it the pipeline idle for longest is loaded again when it is asked for."""


class ServingSettings(Settings):
    """What the server is told."""

    serving: ServingGroup = ServingGroup()
    """Group ``TIDEMILL_SERVING__``."""
