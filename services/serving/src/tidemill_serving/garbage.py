"""How often Python looks for cycles."""

import gc

_NEW_OBJECTS = 50_000
"""Containers made since the last look; a batch makes thousands, all of them gone, by counting, with its answers."""


async def look_rarely() -> None:
    """Leave what was loaded by now out of every later look, and look rarely: it was a tenth of the work on a batch."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 50)
