"""The bodies of child processes. Their imports are inside, so that the parent stays without the science libraries."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tidemill_training.job import Job, Trained, Unfit

PRELOAD = ("tidemill_training.fitting",)
"""Imported once by the server that children are forked from."""


def train(job: Job, progress: Callable[[Any], None]) -> Trained | Unfit:
    """Search, fit, judge, explain; see ``fitting``."""
    from tidemill_training import fitting

    return fitting.train(job, progress)


def count_since(paths: list[Path], since: datetime, from_ordinal: int, progress: Callable[[Any], None]) -> list[int]:
    """For each part its rows with event time ``since`` or later that are still alive."""
    from tidemill_training.domain import rows

    return [rows.count_since(path, since, from_ordinal) for path in paths]
