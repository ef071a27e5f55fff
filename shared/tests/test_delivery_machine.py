"""The delivery layer against a model of it, step by step in any order hypothesis can think of.

``Fake`` is the model: 60 lines that say what the completion step, leases, take-over and trimming mean. It is tried by
itself, and a real Redis is compared with it after each step. Deeper: TIDEMILL_MACHINE_EXAMPLES=500 pytest <this file>.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from pydantic import SecretStr

from tidemill_contracts.envelope import FIELD
from tidemill_shared.dead_letters import DeadLetters
from tidemill_shared.delivery import Completion, Delivery, Mailbox, Once, delivery_of
from tidemill_shared.errors import StaleState
from tidemill_shared.nodes import connect
from tidemill_shared.settings import RedisSettings
from tidemill_shared.testing.servers import Servers
from tidemill_shared.trimming import trim

EXAMPLES = int(os.environ.get("TIDEMILL_MACHINE_EXAMPLES", "12"))
WORKERS = ("one", "two")
LEASE_SECONDS = 0.001
T = TypeVar("T")
Held = dict[int, str]
"""Numbers of entries a worker believes to hold, each with its event's id."""


@dataclass
class Fake:
    """What should be in Redis."""

    entries: dict[int, str] = field(default_factory=dict)
    unread: int = 1
    last: int = 0
    pending: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Owner and deliveries of each entry that was read and not acknowledged."""
    answers: list[str] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    champion: str | None = None

    def add(self, id_: str) -> None:
        self.last += 1
        self.entries[self.last] = id_

    def read(self, worker: str, count: int) -> Held:
        found = [n for n in self.entries if n >= self.unread][:count]
        for n in found:
            self.unread, self.pending[n] = n + 1, (worker, 1)
        return {n: self.entries[n] for n in found}

    def owns(self, worker: str, n: int) -> bool:
        return self.pending.get(n, ("",))[0] == worker

    def answer(self, worker: str, held: Held) -> set[int]:
        refused = {n for n in held if not self.owns(worker, n)}
        for n, id_ in held.items():
            if n not in refused:
                del self.pending[n]
                if id_ not in self.answers:
                    self.answers.append(id_)
        return refused

    def bury(self, worker: str, n: int) -> set[int]:
        if not self.owns(worker, n):
            return {n}
        del self.pending[n]
        self.dead.append(n)
        return set()

    def promote(self, worker: str, n: int, version: str, believed: str | None) -> set[int] | None:
        if believed != self.champion:
            return None
        if not self.owns(worker, n):
            return {n}
        del self.pending[n]
        self.champion = version
        return set()

    def claim(self, worker: str, count: int) -> list[tuple[int, int]]:
        taken = sorted(self.pending)[:count]
        for n in taken:
            self.pending[n] = worker, self.pending[n][1] + 1
        return [(n, self.pending[n][1]) for n in taken]

    def lost(self, worker: str, held: Held) -> set[int]:
        return {n for n in held if not self.owns(worker, n)}

    def needed(self) -> set[int]:
        return set(self.pending) | {n for n in self.entries if n >= self.unread}

    def flush(self) -> None:
        last, accepted = self.last, list(dict.fromkeys(self.entries.values()))
        self.__init__()  # type: ignore[misc]
        self.last = last
        self.unread = last + 1
        for id_ in accepted:
            self.add(id_)


class Machine(RuleBasedStateMachine):
    """Two workers of one group. Whatever is in ``held`` may have been lost meanwhile: nobody tells them."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.fake = Fake()
        self.held: dict[str, Held] = {worker: {} for worker in WORKERS}
        self.settled: set[str] = set()
        self.versions = 0

    # What a real Redis does beside the model; here nothing.
    def really(self, what: str, *arguments: Any) -> Any:
        return None

    def same(self, expected: T, what: str, *arguments: Any) -> T:
        found = self.really(what, *arguments)
        assert found is None or found == expected, (what, arguments, found, expected)
        return expected

    @rule(target=ids)
    def publish(self) -> str:
        id_ = f"e{uuid4().hex[:6]}"
        self.fake.add(id_)
        self.really("add", self.fake.last, id_)
        return id_

    @rule(id_=ids)
    def publish_again(self, id_: str) -> None:
        self.fake.add(id_)
        self.really("add", self.fake.last, id_)

    @rule(worker=st.sampled_from(WORKERS), count=st.integers(1, 5))
    def deliver(self, worker: str, count: int) -> None:
        self.held[worker] |= self.same(self.fake.read(worker, count), "read", worker, count)

    @rule(worker=st.sampled_from(WORKERS), data=st.data())
    def answer(self, worker: str, data: st.DataObject) -> None:
        chosen = data.draw(st.sets(st.sampled_from(sorted(self.held[worker])))) if self.held[worker] else set()
        held = {n: self.held[worker][n] for n in sorted(chosen)}
        if held:
            self.same(self.fake.answer(worker, held), "answer", worker, held)
            self._forget(worker, held)

    @precondition(lambda self: any(self.held.values()))
    @rule(worker=st.sampled_from(WORKERS), data=st.data(), stale=st.booleans())
    def promote(self, worker: str, data: st.DataObject, stale: bool) -> None:
        if self.held[worker]:
            n = data.draw(st.sampled_from(sorted(self.held[worker])))
            self.versions += 1
            version, believed = f"v{self.versions}", "another" if stale else self.fake.champion
            id_, done = self.held[worker][n], self.fake.promote(worker, n, version, believed)
            self.same("stale" if done is None else done, "promote", worker, n, id_, version, believed)
            if done is not None:
                self.settled |= {id_} - {id_ for _ in done}
                self._forget(worker, {n: id_})

    @precondition(lambda self: any(self.held.values()))
    @rule(worker=st.sampled_from(WORKERS), data=st.data())
    def bury(self, worker: str, data: st.DataObject) -> None:
        if self.held[worker]:
            n = data.draw(st.sampled_from(sorted(self.held[worker])))
            id_ = self.held[worker][n]
            if not self.same(self.fake.bury(worker, n), "bury", worker, n, id_):
                self.settled.add(id_)
            self._forget(worker, {n: id_})

    @rule(worker=st.sampled_from(WORKERS))
    def crash(self, worker: str) -> None:
        self.held[worker] = {}

    @rule(worker=st.sampled_from(WORKERS), count=st.integers(1, 5))
    def take_over(self, worker: str, count: int) -> None:
        taken = self.same(self.fake.claim(worker, count), "claim", worker, count)
        self.held[worker] |= {n: self.fake.entries[n] for n, _ in taken}

    @rule(worker=st.sampled_from(WORKERS))
    def renew(self, worker: str) -> None:
        if self.held[worker]:
            self.same(self.fake.lost(worker, self.held[worker]), "renew", worker, self.held[worker])

    @rule()
    def cut(self) -> None:
        self.really("trim")

    @rule()
    def lose_redis(self) -> None:
        """Everything is gone; what was accepted is published again, as the inbox and restore do."""
        self.fake.flush()
        self.settled.clear()
        self.really("flush", self.fake)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert len(set(self.fake.answers)) == len(self.fake.answers)
        open_ = {self.fake.entries[n] for n in self.fake.needed()}
        assert set(self.fake.entries.values()) == open_ | set(self.fake.answers) | self.settled
        self.really("compare", self.fake)

    def teardown(self) -> None:
        """The dead are replaced by the living: everything open is taken over and answered."""
        while self.fake.needed():
            self.deliver("one", 100)
            self.take_over("one", 100)
            held = dict(self.held["one"])
            self.same(self.fake.answer("one", held), "answer", "one", held)
            self.held["one"] = {}
        self.nothing_is_lost_or_doubled()

    def _forget(self, worker: str, held: Held) -> None:
        self.held[worker] = {n: id_ for n, id_ in self.held[worker].items() if n not in held}


class Real:
    """The same steps on a real Redis."""

    def __init__(self, servers: Servers) -> None:
        password = SecretStr(servers.redis_password)
        self.redis = connect(RedisSettings(url=servers.redis_url, password=password))
        self.namespace = f"machine-{uuid4().hex[:8]}"
        tag = f"{{{self.namespace}}}"
        self.stream, self.out, self.state, self.marks = (f"{tag}:{n}" for n in ("work", "out", "state", "marks"))
        self.boxes = {w: Mailbox(self.redis, self.namespace, "g", w, LEASE_SECONDS) for w in WORKERS}

    async def open(self) -> None:
        await self.redis.config_set("stream-node-max-entries", 2)  # trimming removes whole nodes
        await self.boxes["one"].open([self.stream])

    async def close(self) -> None:
        await self._drop()
        await self.redis.config_set("stream-node-max-entries", 100)
        await self.redis.aclose()

    async def _drop(self) -> None:
        keys = [key async for key in self.redis.scan_iter(match=f"{{{self.namespace}}}*")]
        if keys:
            await self.redis.unlink(*keys)

    def _deliveries(self, held: Held) -> list[Delivery]:
        return [Delivery(self.stream, "work", f"{n}-0", id_.encode()) for n, id_ in held.items()]

    async def add(self, n: int, id_: str) -> None:
        await self.redis.xadd(self.stream, {FIELD: id_}, id=f"{n}-0")

    async def read(self, worker: str, count: int) -> Held:
        reply: Any = await self.redis.xreadgroup("g", worker, {self.stream: ">"}, count=count)
        lists = reply.values() if isinstance(reply, dict) else [entries for _, entries in reply or ()]
        found = [delivery_of(self.stream, entry, fields) for entries in lists for entry, fields in entries]
        return {_number(d.entry): d.body.decode() for d in found}

    async def answer(self, worker: str, held: Held) -> set[int]:
        outputs = [(d, [(self.out, d.body)]) for d in self._deliveries(held)]
        once = Once(self.marks, tuple(held.values()), 3600.0)
        return _numbers(await self.boxes[worker].complete(Completion(outputs=list(outputs), once=once)))

    async def bury(self, worker: str, n: int, id_: str) -> set[int]:
        (delivery,) = self._deliveries({n: id_})
        return _numbers(await self.boxes[worker].complete(Completion(dead=[(delivery, "poison", "no")])))

    async def promote(self, worker: str, n: int, id_: str, version: str, believed: str | None) -> set[int] | str:
        (delivery,) = self._deliveries({n: id_})
        guard = self.state, believed.encode() if believed else None
        step = Completion(outputs=[(delivery, ())], writes=[("SET", self.state, version)], guard=guard)
        try:
            return _numbers(await self.boxes[worker].complete(step))
        except StaleState:
            return "stale"

    async def claim(self, worker: str, count: int) -> list[tuple[int, int]]:
        deadline = time.monotonic() + 10
        while True:  # until every lease has run out, the longest back-off included
            waits = await self.redis.xpending_range(self.stream, "g", "-", "+", 1000)
            if all(w["time_since_delivered"] > 8 * LEASE_SECONDS * 1000 for w in waits):
                break
            assert time.monotonic() < deadline
        return [(_number(d.entry), d.deliveries) for d in await self.boxes[worker].reclaim(self.stream, count)]

    async def renew(self, worker: str, held: Held) -> set[int]:
        return {_number(entry) for entry in await self.boxes[worker].renew(self._deliveries(held))}

    async def trim(self) -> None:
        await trim(self.redis, [self.stream], 0.0)

    async def flush(self, fake: Fake) -> None:
        await self._drop()
        for n, id_ in fake.entries.items():
            await self.add(n, id_)
        await self.boxes["one"].open([self.stream])

    async def compare(self, fake: Fake) -> None:
        there = {_number(entry.decode()) for entry, _ in await self.redis.xrange(self.stream)}
        assert fake.needed() <= there, "trimming removed what somebody needs"
        answers = [fields[FIELD.encode()].decode() for _, fields in await self.redis.xrange(self.out)]
        assert answers == fake.answers
        pending = await self.redis.xpending_range(self.stream, "g", "-", "+", 1000)
        found = {_number(p["message_id"].decode()): (p["consumer"].decode(), p["times_delivered"]) for p in pending}
        assert found == fake.pending
        assert await DeadLetters(self.redis, self.namespace).count() == len(fake.dead)
        assert await self.redis.get(self.state) == (fake.champion.encode() if fake.champion else None)


def _number(entry: str) -> int:
    return int(entry.partition("-")[0])


def _numbers(deliveries: list[Delivery]) -> set[int]:
    return {_number(d.entry) for d in deliveries}


def real_machine(servers: Servers) -> type[Machine]:
    """The machine that also asks a real Redis."""

    class RealMachine(Machine):
        def __init__(self) -> None:
            super().__init__()
            self.runner = asyncio.Runner()
            self.real = Real(servers)
            self.run(self.real.open())

        def run(self, work: Coroutine[Any, Any, Any]) -> Any:
            return self.runner.run(work)

        def really(self, what: str, *arguments: Any) -> Any:
            step: Callable[..., Coroutine[Any, Any, Any]] = getattr(self.real, what)
            return self.run(step(*arguments))

        def teardown(self) -> None:
            try:
                super().teardown()
            finally:
                self.run(self.real.close())
                self.runner.close()

    return RealMachine


def limits(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # To make a failure shorter takes minutes on a real Redis.
        phases=tuple(Phase) if EXAMPLES > 50 else (Phase.explicit, Phase.reuse, Phase.generate),
    )


def test_the_model_keeps_its_promises() -> None:
    run_state_machine_as_test(Machine, settings=limits(10 * EXAMPLES))


@pytest.mark.timeout(3600 if EXAMPLES > 50 else 120)
def test_a_real_redis_does_what_the_model_says(servers: Servers) -> None:
    run_state_machine_as_test(real_machine(servers), settings=limits(EXAMPLES))
