"""Background tasks that end when they are told to."""

import asyncio
from collections.abc import Iterable


async def end(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Cancel tasks until they are done.

    Once is not enough: redis-py may turn a cancellation that meets a reply into a time-out, and a loop that survives
    time-outs would then go on for ever.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.5)
