"""The body of the child process. Its imports are inside, so that the parent stays without the science libraries."""

from collections.abc import Callable
from typing import Any

from tidemill_validation.job import Job, Judged

PRELOAD = ("tidemill_validation.judging",)
"""Imported once by the server that children are forked from."""


def judge(job: Job, progress: Callable[[Any], None]) -> Judged:
    """Goals, invariants, latency, and the comparison with the champion; see ``judging``."""
    from tidemill_validation import judging

    return judging.judge(job)
