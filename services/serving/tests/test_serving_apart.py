"""A challenger's thread: one call at a time, and nobody waits for it at the end."""

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from tidemill_serving.apart import Apart

STUCK = """
import asyncio, threading
from tidemill_serving.apart import Apart

async def main():
    apart, begun = Apart(60.0), threading.Event()
    def stuck():
        begun.set()
        threading.Event().wait()
    waiting = [asyncio.create_task(apart.run(call)) for call in (stuck, print)]
    await asyncio.to_thread(begun.wait)
    apart.close()
    waiting[0].cancel()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    print([type(error).__name__ for error in found])

asyncio.run(main())
"""


def test_a_process_ends_though_a_call_does_not() -> None:
    """What waited behind the call is given up on, and was not made."""
    ended = subprocess.run([sys.executable, "-c", STUCK], timeout=60, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "['CancelledError', 'TimeoutError']\n"), ended.stderr


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


async def test_calls_are_made_one_by_one_in_order_and_what_they_raise_is_raised() -> None:
    apart, now, most = Apart(60.0), 0, 0
    made: list[int] = []

    def call(number: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        made.append(number)
        if number == 3:
            raise ValueError("three")
        now -= 1
        return number

    found = await asyncio.gather(*(apart.run(call, i) for i in range(3)))
    with pytest.raises(ValueError, match="three"):
        await apart.run(call, number=3)
    assert (found, made, most) == ([0, 1, 2], [0, 1, 2, 3], 1)
    apart.close()
    with pytest.raises(TimeoutError):
        await apart.run(call, 4)


async def test_a_call_that_was_given_up_on_lets_no_other_begin_until_it_ends() -> None:
    apart, free = Apart(0.05), threading.Event()
    with pytest.raises(TimeoutError):
        await apart.run(free.wait, 60)
    assert apart.stuck
    with pytest.raises(TimeoutError):
        await apart.run(int)
    free.set()
    await until(lambda: not apart.stuck)
    apart.seconds = 60.0
    assert await apart.run(int) == 0
    apart.close()


async def test_one_that_nobody_needs_any_more_leaves_no_thread() -> None:
    apart = Apart(60.0)
    thread = await apart.run(threading.current_thread)
    del apart
    gc.collect()
    await until(lambda: not thread.is_alive())
