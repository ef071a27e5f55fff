"""Ids of finished rows, in a real Redis: known for long enough, forgotten after a while, a few bytes each."""

from collections.abc import Sequence

from tidemill_monitoring.finished import SHARDS, Finished
from tidemill_monitoring.keys import Keys
from tidemill_shared.testing.platform import Platform


def keys_of(platform: Platform) -> Keys:
    return Keys(platform.namespace, "spins")


async def add(platform: Platform, finished: Finished, ids: Sequence[str]) -> None:
    """As the completion step does."""
    pipe = platform.redis.pipeline()
    for command in finished.writes(ids):
        pipe.execute_command(*command)
    await pipe.execute()


async def test_the_latest_ids_are_known_and_the_number_is_bounded(platform: Platform) -> None:
    finished = Finished(platform.redis, keys_of(platform), 500)
    ids = [f"row-{n}" for n in range(2_600)]
    assert await finished.known(ids[:10]) == set()
    for at in range(0, len(ids), 100):
        await finished.known(())
        await add(platform, finished, ids[at : at + 100])
        latest = ids[max(0, at - 400) : at + 100]
        assert await finished.known(latest) == set(latest)
    # Another process, which has nothing but what is stored.
    known = await Finished(platform.redis, keys_of(platform), 500).known(ids)
    assert set(ids[-500:]) <= known
    assert len(known) <= 1_000
    assert await Finished(platform.redis, keys_of(platform), 500).known(["never seen"]) == set()


async def test_adding_an_id_again_changes_nothing(platform: Platform) -> None:
    finished = Finished(platform.redis, keys_of(platform), 500)
    for _ in range(2):
        await finished.known(["a", "b"])
        await add(platform, finished, ["a", "b"])
    assert await finished.known(["a", "b", "c"]) == {"a", "b"}


async def test_an_id_takes_about_eight_bytes(platform: Platform) -> None:
    rows = 110_000
    finished = Finished(platform.redis, keys_of(platform), rows)
    await finished.known(())
    await add(platform, finished, [f"0190f7a2-{n:08x}-7c3e" for n in range(rows)])
    names = [keys_of(platform).done(0, shard) for shard in range(SHARDS)]
    assert {await platform.redis.object("ENCODING", name) for name in names} == {b"intset"}
    assert sum([await platform.redis.memory_usage(name) or 0 for name in names]) < 9.5 * rows
