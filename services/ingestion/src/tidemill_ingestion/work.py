"""The body of a preparation, run in a child process. Its imports are inside, so that the parent stays small."""

from collections.abc import Callable
from typing import Any

from tidemill_ingestion.domain.job import Job, Prepared, RefusedFile

# Ingestion does not use pandas, but pyarrow imports it where it is installed, 0.2 s in every child, just to ask whether
# a value is one of its. Where it is missing the server skips it.
PRELOAD = ("tidemill_ingestion.domain.preparation", "pandas", "pyarrow.pandas_compat")


def work(job: Job, progress: Callable[[Any], None]) -> Prepared | RefusedFile:
    """Prepare one file."""
    from tidemill_ingestion.domain.preparation import prepare

    return prepare(job, progress)
