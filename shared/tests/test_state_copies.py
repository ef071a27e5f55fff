"""Copies of states: written when something changed, by whichever process."""

import pytest

from tidemill_shared.state_copies import StateCopies
from tidemill_shared.testing.platform import Platform


def copies(platform: Platform, every_seconds: float = 0.0) -> StateCopies:
    return StateCopies(platform.bus, platform.store, "training", every_seconds)


async def test_a_start_does_not_copy_again_what_has_not_changed(platform: Platform) -> None:
    first = copies(platform)
    assert await first.due("demo", b"1")
    await first.write("demo", b"1", b"state")
    assert not await first.due("demo", b"1")
    second = copies(platform)
    assert not await second.due("demo", b"1")
    assert await second.due("demo", b"2")
    assert await second.due("other", b"1")
    assert await second.read("demo") == b"state"


async def test_a_change_waits_for_its_time_but_not_for_another_life_of_it(platform: Platform) -> None:
    first = copies(platform, every_seconds=3_600)
    await first.write("demo", b"1", b"state")
    assert not await first.due("demo", b"2")
    assert await copies(platform, every_seconds=3_600).due("demo", b"2")


@pytest.mark.parametrize("copied_before", [False, True])
async def test_a_redis_that_was_lost_gets_new_marks(platform: Platform, copied_before: bool) -> None:
    if copied_before:
        await copies(platform).write("demo", b"1", b"state")
    await platform.lose_redis()
    assert await copies(platform).due("demo", b"1")
