import asyncio

import pytest

from tidemill_shared.child import Child
from tidemill_shared.errors import ChildDied
from tidemill_shared.testing.work import add, die, fail, hang


async def test_results_progress_errors_and_deaths() -> None:
    child = Child()
    seen = []

    async def on_progress(value: str) -> None:
        seen.append(value)

    assert await child.run(add, 1, 2, on_progress=on_progress) == 3
    assert seen == ["adding"]
    with pytest.raises(ValueError, match="no"):
        await child.run(fail)
    with pytest.raises(ChildDied, match="memory"):
        await child.run(die)
    with pytest.raises(TimeoutError):
        await child.run(hang, timeout_seconds=0.3)
    task = asyncio.create_task(child.run(hang))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
