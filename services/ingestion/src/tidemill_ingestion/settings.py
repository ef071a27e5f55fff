"""Settings of ingestion."""

from pydantic import Field

from tidemill_shared.settings import Group, Settings


class IngestionGroup(Group):
    """Group ``TIDEMILL_INGESTION__``."""

    max_bytes: int = Field(default=2 * 1024**3, ge=1024)
    """Size of one file, at most."""
    max_unpacked_bytes: int = Field(default=4 * 1024**3, ge=1024)
    """Size of a gzipped file once unpacked, at most."""
    max_unpacked_ratio: float = Field(default=200.0, gt=1)
    """Unpacked over packed size, at most: more is a bomb."""
    max_rows: int = Field(default=50_000_000, ge=1)
    """Rows of one file, at most."""
    max_columns: int = Field(default=4096, ge=2)
    """Columns of one file, at most."""
    max_field_bytes: int = Field(default=1024**2, ge=16)
    """Size of one value, at most (of one line, in JSON Lines, sixteen times that)."""
    memory_bytes: int | None = Field(default=None, ge=256 * 1024**2)
    """Memory one preparation may take; None is three quarters of the machine's or container's."""
    profile_rows: int = Field(default=100_000, ge=100)
    """Newest rows the profile is computed on, at most."""
    max_uploads: int = Field(default=16, ge=1, le=1000)
    """Uploads over HTTP at once; more are asked to come back."""
    sweep_seconds: float = Field(default=60.0, gt=0, le=86_400)
    """How often accepted events without an outcome are looked for."""
    grace_seconds: float = Field(default=60.0, ge=0, le=86_400)
    """An accepted event is published again when it has had no outcome for this long."""
    limit_seconds: float = Field(default=3600.0, gt=0)
    """Time one file may take."""
    patience_seconds: float = Field(default=3600.0, gt=0)
    """Time a file waits while another replica prepares one of the same pipeline."""


class IngestionSettings(Settings):
    """What ingestion is told."""

    ingestion: IngestionGroup = IngestionGroup()
    """Group ``TIDEMILL_INGESTION__``."""
