"""What the monitor is told. How a pipeline is judged stands in its specification, not here."""

from pydantic import Field

from tidemill_shared.settings import Group, Settings


class MonitoringGroup(Group):
    """Bounds on what is kept."""

    batch_records: int = Field(default=512, ge=1, le=5_000)
    """Events of each stream taken in one step."""
    open_rows: int = Field(default=200_000, ge=100)
    """Rows of a pipeline that may wait for their answer or label; beyond this the oldest are given up."""
    open_seconds: float = Field(default=30 * 86_400.0, gt=0)
    """A row that waited this long for its answer or label is given up."""
    awaited_rows: int = Field(default=5_000, ge=100)
    """Labelled rows of a pipeline that may wait for the other labels of their windows; beyond this (and beyond two
    windows) the oldest window is measured as it is. About 150 bytes each with two classes."""
    done_rows: int = Field(default=50_000, ge=100)
    """Ids of finished rows kept to recognise repetitions, and at most twice as many; 9 bytes each, for up to 110 000.
    A row can only be counted twice when its request, its answer and its label are all repeated after this many others
    were finished."""
    log_rows: int = Field(default=2_000, ge=1)
    """Answers that make a part of the prediction log."""
    log_seconds: float = Field(default=60.0, gt=0)
    """An answer waits at most this long to be logged."""
    alert_seconds: float = Field(default=1.0, gt=0)
    """Labelled rows wait at most this long to be sent back while a drift stands that may retrain."""
    copy_seconds: float = Field(default=60.0, gt=0)
    """How often the state of a pipeline (not its waiting rows) is copied to the object store, for a lost Redis."""
    poll_seconds: float = Field(default=0.25, gt=0, le=5)
    """How often waiting rows are looked for."""


class MonitoringSettings(Settings):
    """Settings of the monitoring service."""

    monitoring: MonitoringGroup = MonitoringGroup()
    """Group ``TIDEMILL_MONITORING__``."""
