"""Settings of the judge."""

from pydantic import Field

from tidemill_shared.settings import Group, Settings


class ValidationGroup(Group):
    """Group ``TIDEMILL_VALIDATION__``."""

    min_rows: int = Field(default=20, ge=5, le=100_000)
    """Fewer unseen rows than this prove nothing: the package is rejected."""
    resamples: int = Field(default=2_000, ge=1_000, le=100_000)
    """Of the paired bootstrap."""
    limit_seconds: float = Field(default=900.0, gt=0)
    """Time a judgement may take."""


class ValidationSettings(Settings):
    """What the judge is told."""

    validation: ValidationGroup = ValidationGroup()
    """Group ``TIDEMILL_VALIDATION__``."""
