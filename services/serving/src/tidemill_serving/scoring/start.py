"""The child's way in. Arrow is imported inside, so that the parent stays without it."""

from collections.abc import Callable
from typing import Any

from tidemill_serving.scoring.job import Job, Unreadable


def score(job: Job, progress: Callable[[Any], None]) -> Unreadable | None:
    """See ``work.score``."""
    from tidemill_serving.scoring import work

    return work.score(job, progress)
