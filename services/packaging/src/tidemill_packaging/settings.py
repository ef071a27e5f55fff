"""Settings of the packager."""

from pydantic import Field

from tidemill_shared.settings import Group, Settings


class PackagingGroup(Group):
    """Group ``TIDEMILL_PACKAGING__``."""

    opset: int = Field(default=21, ge=15, le=25)
    """ONNX operator set of packages."""
    parity_rows: int = Field(default=2_000, ge=1_000, le=1_000_000)
    """Rows on which trained and packaged model must agree."""
    golden_rows: int = Field(default=32, ge=1, le=1_000)
    """Predictions that travel with the package as its proof."""
    reference_rows: int = Field(default=100_000, ge=1_000)
    """Newest training rows that the monitor's reference is made from, at most."""
    replay_seconds: float = Field(default=60.0, gt=0, le=3600)
    """Time the replay in a clean process may take."""
    limit_seconds: float = Field(default=1800.0, gt=0)
    """Time packaging may take as a whole."""


class PackagingSettings(Settings):
    """What the packager is told."""

    packaging: PackagingGroup = PackagingGroup()
    """Group ``TIDEMILL_PACKAGING__``."""
