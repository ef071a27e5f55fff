import asyncio
from pathlib import Path

import pytest

from tidemill_shared.child import Bounds, Child
from tidemill_shared.errors import ChildDied
from tidemill_shared.testing.work import add, die, fail, fill, grow, hang, spin


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


async def test_a_child_that_takes_too_much_ends_alone(tmp_path: Path) -> None:
    child = Child(bounds=Bounds(memory_bytes=512 * 1024**2, cpu_seconds=1, file_bytes=1024))
    assert await child.run(grow, 1024**2) == 1024**2
    with pytest.raises(ChildDied):
        await child.run(grow, 1024**3)
    with pytest.raises(ChildDied):
        await child.run(spin, timeout_seconds=30)
    with pytest.raises(OSError, match="too large"):
        await child.run(fill, str(tmp_path / "big"), 4096)
    assert await child.run(add, 1, 2) == 3
