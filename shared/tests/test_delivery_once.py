"""First writer wins, and streams lose nothing that somebody still needs."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill_shared.delivery import Completion, Delivery, Mailbox, Once, delivery_of
from tidemill_shared.testing.platform import Platform
from tidemill_shared.trimming import trim


async def mailbox(platform: Platform, consumer: str, streams: list[str]) -> Mailbox:
    box = Mailbox(platform.redis, platform.namespace, "answerers", consumer, 5.0)
    await box.open(streams)
    return box


async def take(box: Mailbox, stream: str, count: int = 100) -> list[Delivery]:
    reply = await box.redis.xreadgroup(box.group, box.consumer, {stream: ">"}, count=count)
    found = reply.values() if isinstance(reply, dict) else [entries for _, entries in reply or ()]
    return [delivery_of(stream, entry, fields) for entries in found for entry, fields in entries]


def answer(taken: list[Delivery], out: str, body: bytes, once: Once) -> Completion:
    return Completion(outputs=[(d, [(out, body)]) for d in taken], once=once)


async def test_the_first_answer_to_an_id_stands(platform: Platform) -> None:
    requests, answers = (f"{{{platform.namespace}:p}}:{name}" for name in ("requests", "answers"))
    key = f"{{{platform.namespace}:p}}:answered"
    first, second = await mailbox(platform, "a", [requests]), await mailbox(platform, "b", [requests])
    for _ in range(3):
        await platform.redis.xadd(requests, {"__data__": b"the same request"})
    one, rest = await take(first, requests, 1), await take(second, requests, 2)
    assert await first.complete(answer(one, answers, b"by a", Once(key, ("r1",), 60))) == []
    assert await second.complete(answer(rest, answers, b"by b", Once(key, ("r1", "r1"), 60))) == []
    assert [fields[b"__data__"] for _, fields in await platform.redis.xrange(answers)] == [b"by a"]
    assert (await platform.redis.xpending(requests, "answerers"))["pending"] == 0


async def test_an_id_twice_in_one_batch_is_answered_once_and_a_refused_entry_leaves_no_mark(platform: Platform) -> None:
    requests, answers = (f"{{{platform.namespace}:p}}:{name}" for name in ("requests", "answers"))
    key = f"{{{platform.namespace}:p}}:answered"
    zombie, heir = await mailbox(platform, "a", [requests]), await mailbox(platform, "b", [requests])
    for _ in range(2):
        await platform.redis.xadd(requests, {"__data__": b"the same request"})
    taken = await take(zombie, requests)
    await platform.redis.xclaim(requests, "answerers", "b", 0, [d.entry for d in taken])
    assert len(await zombie.complete(answer(taken, answers, b"zombie", Once(key, ("r1", "r1"), 60)))) == 2
    assert await heir.complete(answer(taken, answers, b"heir", Once(key, ("r1", "r1"), 60))) == []
    assert [fields[b"__data__"] for _, fields in await platform.redis.xrange(answers)] == [b"heir"]


async def test_an_id_twice_in_a_batch_of_several_commands_is_answered_once(platform: Platform) -> None:
    requests, answers = (f"{{{platform.namespace}:p}}:{name}" for name in ("requests", "answers"))
    box = await mailbox(platform, "a", [requests])
    pipe = platform.redis.pipeline(transaction=False)
    for _ in range(4_100):  # Lua's stack holds 4 000 words of a command
        pipe.xadd(requests, {"__data__": b"x"})
    await pipe.execute()
    taken = await take(box, requests, 5_000)
    ids = ("twice", *(f"r{i}" for i in range(len(taken) - 2)), "twice")
    once = Once(f"{{{platform.namespace}:p}}:answered", ids, 60)
    assert await box.complete(Completion(outputs=[(d, [(answers, b"y")]) for d in taken], once=once)) == []
    assert await platform.redis.xlen(answers) == len(taken) - 1


async def test_what_is_remembered_stays_bounded(platform: Platform) -> None:
    requests, answers = (f"{{{platform.namespace}:p}}:{name}" for name in ("requests", "answers"))
    key = f"{{{platform.namespace}:p}}:answered"
    box = await mailbox(platform, "a", [requests])
    deadline = time.monotonic() + 3
    number = 0
    while time.monotonic() < deadline:
        await platform.redis.xadd(requests, {"__data__": b"x"})
        await box.complete(answer(await take(box, requests), answers, b"y", Once(key, (f"r{number}",), 0.2)))
        number += 1
        held = [await platform.redis.scard(f"{key}:{parity}") for parity in (0, 1)]
    assert sum(held) < number / 2
    assert 0 < await platform.redis.pttl(f"{key}:0") <= 400


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["add", "read-a", "read-b", "ack-a", "ack-b", "trim"]), min_size=5, max_size=60))
@pytest.mark.asyncio(loop_scope="function")
async def test_trimming_never_takes_what_a_group_has_not_acknowledged(platform: Platform, steps: list[str]) -> None:
    redis, stream = platform.redis, f"{{{platform.namespace}}}:s"
    await redis.delete(stream)
    for group in ("a", "b"):
        await redis.xgroup_create(stream, group, "0", mkstream=True)
    # Small nodes, so that approximate trimming has something to remove.
    await redis.config_set("stream-node-max-entries", 2)
    added: list[bytes] = []
    held: dict[str, list[bytes]] = {"a": [], "b": []}
    acknowledged: dict[str, set[bytes]] = {"a": set(), "b": set()}
    for step in steps:
        name, _, group = step.partition("-")
        if name == "add":
            added.append(await redis.xadd(stream, {"k": "v"}, id=f"{len(added) + 1}-1"))
        elif name == "read":
            reply = await redis.xreadgroup(group, "c", {stream: ">"}, count=3)
            entries = reply.values() if isinstance(reply, dict) else [e for _, e in reply or ()]
            held[group] += [entry for found in entries for entry, _ in found]
        elif name == "ack" and held[group]:
            entry = held[group].pop()
            await redis.xack(stream, group, entry)
            acknowledged[group].add(entry)
        else:
            await trim(redis, [stream], 0)
        left = {entry for entry, _ in await redis.xrange(stream)}
        for entry in added:
            assert entry in left or all(entry in acknowledged[g] for g in ("a", "b"))
    await redis.config_set("stream-node-max-entries", 100)


async def test_trimming_removes_what_is_old_and_done_and_keeps_the_retention(platform: Platform) -> None:
    redis, stream = platform.redis, f"{{{platform.namespace}}}:s"
    for number in range(1, 2001):
        await redis.xadd(stream, {"k": "v"}, id=f"{number}-0")
    await redis.xgroup_create(stream, "a", "0")
    assert await trim(redis, [stream], 0) == 0
    await redis.xreadgroup("a", "c", {stream: ">"}, count=1500)
    await redis.xack(stream, "a", *[f"{n}-0" for n in range(1, 1001)])
    assert await trim(redis, [stream, f"{{{platform.namespace}}}:absent"], 10**11) == 0
    assert 800 <= await trim(redis, [stream], 0) <= 1000
    assert (await redis.xpending(stream, "a"))["min"] == b"1001-0"
    assert await redis.xlen(stream) >= 1000
