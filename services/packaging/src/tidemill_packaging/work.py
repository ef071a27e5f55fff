"""The body of the child process. Its imports are inside, so that the parent stays without the science libraries."""

from collections.abc import Callable
from typing import Any

from tidemill_packaging.job import Job, Packed, Unpackable

PRELOAD = ("tidemill_packaging.packing",)
"""Imported once by the server that children are forked from."""


def pack(job: Job, progress: Callable[[Any], None]) -> Packed | Unpackable:
    """Load, convert, compare, describe; see ``packing``."""
    from tidemill_packaging import packing

    return packing.pack(job)
