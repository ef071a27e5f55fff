"""The body of the child process. Its imports are inside, so that the parent stays without the science libraries."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tidemill_validation.job import Job, Judged

PRELOAD = ("tidemill_validation.judging", "tidemill_validation.freezing")
"""Imported once by the server that children are forked from."""


def judge(job: Job, progress: Callable[[Any], None]) -> Judged:
    """Goals, invariants, latency, and the comparison with the champion; see ``judging``."""
    from tidemill_validation import judging

    return judging.judge(job)


def freeze(
    paths: tuple[Path, ...],
    from_ordinal: int,
    since: datetime | None,
    newest: int,
    out: Path,
    progress: Callable[[Any], None],
) -> int:
    """A golden set's rows; see ``freezing``."""
    from tidemill_validation import freezing

    return freezing.freeze(paths, from_ordinal, since, newest, out)
