"""The short set: one installation, one fault after another. `make chaos` runs each whole, on one of its own."""

import asyncio
from pathlib import Path

import pytest
from faultkit.checker import Row
from faultkit.scenario import SHORT, play
from faultkit.scenarios import SCENARIOS

NAMES = ("killed", "kill points", "redis killed", "store away", "malformed", "drift storm", "redis lost")


async def rows_of(folder: Path) -> list[Row]:
    return [row async for row in play({name: SCENARIOS[name] for name in NAMES}, folder, SHORT, seed=1)]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_is_lost_doubled_or_contradicted(tmp_path: Path) -> None:
    rows = asyncio.run(rows_of(tmp_path))
    assert [row.scenario for row in rows] == list(NAMES)
    for row in rows:
        assert row.passed, row
        assert row.sent >= 0.09 * SHORT.requests
