"""The child's way in. Arrow is imported inside, so that the parent stays without it."""

from collections.abc import Callable
from typing import Any

from tidemill_serving.scoring.job import Answered, Job, TableJob, Unreadable


def score(job: Job, progress: Callable[[Any], None]) -> Unreadable | None:
    """See ``work.score``."""
    from tidemill_serving.scoring import work

    return work.score(job, progress)


def answer_table(job: TableJob, progress: Callable[[Any], None]) -> Answered | Unreadable:
    """See ``table.answer``."""
    from tidemill_serving.scoring import table

    return table.answer(job)
