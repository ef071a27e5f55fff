"""The body of a preparation, run in a child process. Its imports are inside, so that the parent stays small."""

from collections.abc import Callable
from typing import Any

from tidemill_ingestion.domain.job import Job, Prepared, RefusedFile

PRELOAD = ("tidemill_ingestion.domain.preparation",)


def work(job: Job, progress: Callable[[Any], None]) -> Prepared | RefusedFile:
    """Prepare one file."""
    from tidemill_ingestion.domain.preparation import prepare

    return prepare(job, progress)
