"""What a look at all pipelines together sees of each."""

from collections.abc import AsyncIterator

import pytest

from tidemill_monitoring.glance import Glance, glance
from tidemill_monitoring.keys import Keys
from tidemill_monitoring.spool import Spool, mark_of
from tidemill_shared.testing.platform import Platform


@pytest.fixture
async def keys(platform: Platform) -> AsyncIterator[Keys]:
    yield Keys(platform.bus.namespace, "demo")


async def seen(platform: Platform) -> Glance:
    found = await glance(platform.bus, ["idle", "demo", "unknown"])
    assert list(found) == ["idle", "demo", "unknown"]
    assert found["idle"] == found["unknown"] == Glance(b"", waiting=False)
    return found["demo"]


async def test_rows_and_choices_that_wait_are_seen(platform: Platform, keys: Keys) -> None:
    redis = platform.bus.redis
    await redis.set(keys.version, b"7")
    assert await seen(platform) == Glance(b"7", waiting=False)
    for key in (keys.feedback, keys.log):
        await redis.rpush(key, b"row")
        assert await seen(platform) == Glance(b"7", waiting=True)
        spool = Spool(platform.bus.mailbox, key)
        taken = await spool.take(10)
        assert taken is not None
        await redis.delete(key)  # the items are gone, the choice still stands
        assert await seen(platform) == Glance(b"7", waiting=True)
        await spool.settle(taken)
        assert await redis.get(mark_of(key)) == b"1:0"
        assert await seen(platform) == Glance(b"7", waiting=False)


async def test_more_pipelines_than_one_question_holds(platform: Platform) -> None:
    names = [f"p-{i}" for i in range(450)]
    await platform.bus.redis.set(Keys(platform.bus.namespace, names[-1]).version, b"1")
    found = await glance(platform.bus, names)
    assert [name for name, saw in found.items() if saw.version] == [names[-1]]
    assert len(found) == 450
