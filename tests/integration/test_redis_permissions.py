"""Each service's Redis user may do what its work needs, and is refused what belongs to others."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from tidemill_console.recovery.past import Past
from tidemill_contracts.registry import EVENTS
from tidemill_contracts.streams import stream_key
from tidemill_shared import embedded, permissions
from tidemill_shared.archive import Archived, archivist
from tidemill_shared.credentials import Credentials, create
from tidemill_shared.delivery import Completion, Delivery, Mailbox
from tidemill_shared.halts import Halts, halted, resume
from tidemill_shared.janitor import sweep
from tidemill_shared.room import Room
from tidemill_shared.settings import DeliverySettings
from tidemill_shared.testing.servers import process
from tidemill_shared.trimming import trim

NAMESPACE = "acl-test"
EACH = pytest.mark.parametrize("service", permissions.SERVICES)


@dataclass(frozen=True)
class Guarded:
    """A redis-server with the access list of an installation."""

    port: int
    credentials: Credentials

    @contextlib.asynccontextmanager
    async def connect(self, user: str) -> AsyncIterator[Redis]:
        """As one of its users."""
        password = self.credentials.redis_password(user).read_text()
        async with Redis(port=self.port, username=user, password=password) as redis:
            yield redis


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("acl")
    made = create(directory / "credentials", NAMESPACE)
    port = embedded.free_port()
    with process(embedded.redis_server(directory / "redis", port, made.redis_access_list), directory / "redis.log"):
        embedded.wait_for_port(port)
        yield Guarded(port, made)


def stream_of(type_: str) -> str:
    return stream_key(NAMESPACE, type_, "sales" if EVENTS[type_].plane == "data" else None)


def concerns(service: str, type_: str) -> bool:
    cls = EVENTS[type_]
    resent = service == "ingestion" and type_ == "data.arrived.v1"
    return resent or service in cls.consumers or service in cls.publishers or "any service" in cls.publishers


@EACH
async def test_a_service_is_refused_every_stream_that_is_not_its_own(guarded: Guarded, service: str) -> None:
    tried = refused = 0
    async with guarded.connect(service) as redis:
        for type_ in EVENTS:
            stream = stream_of(type_)
            if concerns(service, type_):
                assert await redis.xadd(stream, {"__data__": b"{}"})
                assert await redis.xlen(stream) >= 1
                continue
            for call in (
                redis.xadd(stream, {"__data__": b"{}"}),
                redis.xrange(stream),
                redis.xgroup_create(stream, service, "0", mkstream=True),
                redis.xtrim(stream, maxlen=0),
                redis.unlink(stream),
            ):
                tried += 1
                with pytest.raises(NoPermissionError):
                    await call
                refused += 1
    print(f"{service}: {refused} of {tried} calls on {len(EVENTS)} streams refused")
    assert tried > 20


def test_every_control_stream_is_archived_by_one_service_that_may_read_it() -> None:
    for type_, cls in EVENTS.items():
        if cls.plane == "control":
            assert concerns(archivist(cls), type_)


@EACH
async def test_what_the_kit_does_by_itself_is_allowed(guarded: Guarded, service: str) -> None:
    """Trimming, the janitor, halts, looking for room, take-over and burial run in every service."""
    async with guarded.connect(service) as redis:
        box = Mailbox(redis, NAMESPACE, service, "1", lease_seconds=0.5)
        await box.load_scripts()
        for type_ in (t for t, cls in EVENTS.items() if service in cls.consumers):
            stream = stream_of(type_)
            await box.open([stream])
            entry = await redis.xadd(stream, {"__data__": b"{}"})
            await redis.xreadgroup(service, "1", {stream: ">"}, count=100)
            assert await box.reclaim(stream, count=1) == []
            delivery = Delivery(stream, type_, entry.decode(), b"{}")
            assert await box.complete(Completion(dead=[(delivery, "poison", "no")])) == []
            assert await sweep(redis, [stream], service, 3600.0) == 0
            assert await trim(redis, [stream], 3600.0) == 0
            await Room(redis, DeliverySettings()).check(stream)
        halts = Halts(redis, NAMESPACE, service, DeliverySettings(dead_letter_limit=1))
        halts.note("a-stream", 0, 1)
        await halts.look()
        assert halts.streams == {"a-stream"}
    async with guarded.connect("operator") as redis:
        assert [row["stream"] for row in await halted(redis, NAMESPACE, [service])] == ["a-stream"]
        assert await resume(redis, NAMESPACE, service, "a-stream")


async def test_a_shadows_group_is_servings_to_make_and_to_end(guarded: Guarded) -> None:
    stream, group = stream_of("prediction.requested.v1"), "serving-shadow"
    async with guarded.connect("serving") as redis:
        await redis.xgroup_create(stream, group, "$", mkstream=True)
        await redis.xreadgroup(group, "1", {stream: ">"}, count=1, noack=True)
        await redis.xgroup_setid(stream, group, "$")
        await redis.xadd(stream_of("prediction.shadowed.v1"), {"__data__": b"{}"})
        await redis.persist(stream_of("prediction.shadowed.v1"))
        await redis.expire(stream_of("prediction.shadowed.v1"), 60)
    async with guarded.connect("monitoring") as redis:
        with pytest.raises(NoPermissionError):
            await redis.xgroup_destroy(stream, group)
    async with guarded.connect("serving") as redis:
        assert await redis.xgroup_destroy(stream, group)


@EACH
async def test_a_script_runs_with_its_callers_rights(guarded: Guarded, service: str) -> None:
    foreign = next(stream_of(t) for t in EVENTS if not concerns(service, t))
    async with guarded.connect(service) as redis:
        source = f"-- {secrets.token_hex(4)}\nreturn redis.call('XADD', KEYS[1] or ARGV[1], '*', '__data__', '{{}}')"
        with pytest.raises(NoPermissionError):
            await redis.eval(source, 0, foreign)
        sha = await redis.script_load(source)
        with pytest.raises(NoPermissionError):
            await redis.evalsha(sha, 1, foreign)
        # A key the script was not told of is no way round either.
        with pytest.raises(ResponseError, match=r"(?i)permission|can't access|ACL failure|NOPERM"):
            await redis.evalsha(sha, 0, foreign)


@EACH
async def test_no_service_may_administer(guarded: Guarded, service: str) -> None:
    async with guarded.connect(service) as redis:
        for command in (
            "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET dir /tmp", "ACL LIST", "ACL WHOAMI", "KEYS *",
            "SHUTDOWN", "DEBUG SLEEP 0", "MONITOR", "CLIENT LIST", "CLIENT KILL 127.0.0.1:1", "SCRIPT FLUSH",
            "SAVE", "SWAPDB 0 1", "MODULE LIST", "REPLICAOF 127.0.0.1 1", "SCAN 0", "RANDOMKEY",
            "MIGRATE 127.0.0.1 1 x 0 1",
        ):  # fmt: skip
            with pytest.raises(NoPermissionError):
                await redis.execute_command(*command.split())


@EACH
async def test_a_service_keeps_state_under_its_own_name_only(guarded: Guarded, service: str) -> None:
    other = next(s for s in permissions.SERVICES if s != service)
    async with guarded.connect(service) as redis:
        for key in (f"{{{NAMESPACE}}}:{service}:x", f"{{{NAMESPACE}:sales}}:{service}:x", f"{{{NAMESPACE}}}:lock:x"):
            await redis.set(key, "1", px=1000)
        for key in (f"{{{NAMESPACE}}}:{other}:x", f"{{{NAMESPACE}:sales}}:{other}:x", "{elsewhere}:lock:x", "x"):
            with pytest.raises(NoPermissionError):
                await redis.set(key, "1")
            with pytest.raises(NoPermissionError):
                await redis.get(key)


async def test_programs_outside_publish_or_read_and_nothing_else(guarded: Guarded) -> None:
    async with guarded.connect("producer") as producer, guarded.connect("consumer") as consumer:
        for type_ in ("data.arrived.v1", "prediction.requested.v1", "label.observed.v1"):
            assert await producer.xadd(stream_of(type_), {"__data__": b"{}"})
            with pytest.raises(NoPermissionError):
                await producer.xrange(stream_of(type_))
        for type_ in ("prediction.completed.v1", "prediction.failed.v1"):
            await consumer.xrange(stream_of(type_))
            with pytest.raises(NoPermissionError):
                await consumer.xadd(stream_of(type_), {"__data__": b"{}"})
        for type_ in ("model.promoted.v1", "model.approved.v1", "rollback.requested.v1", "pipeline.declared.v1"):
            for client in (producer, consumer):
                with pytest.raises(NoPermissionError):
                    await client.xadd(stream_of(type_), {"__data__": b"{}"})


async def test_an_operator_works_within_the_namespace(guarded: Guarded) -> None:
    async with guarded.connect("operator") as redis:
        for type_ in EVENTS:
            await redis.xadd(stream_of(type_), {"__data__": b"{}"})
            await redis.xrange(stream_of(type_))
        for call in (redis.set("elsewhere", "1"), redis.flushall(), redis.config_get("*"), redis.eval("return 1", 0)):
            with pytest.raises(NoPermissionError):
                await call


async def test_an_operator_brings_the_past_back(guarded: Guarded) -> None:
    type_ = "training.requested.v1"
    async with guarded.connect("operator") as redis:
        await redis.unlink(stream_of(type_))
        assert await Past({type_: [Archived("1-1", b"{}")]}).bring_back(redis, NAMESPACE) == {type_: 1}
    async with guarded.connect("training") as redis:
        assert not await redis.xreadgroup("training", "1", {stream_of(type_): ">"})


async def test_nobody_else_gets_in(guarded: Guarded) -> None:
    async with Redis(port=guarded.port) as nobody:
        with pytest.raises(AuthenticationError):
            await nobody.ping()
    for user, password in (("default", ""), ("serving", "wrong"), ("health", "any")):
        async with Redis(port=guarded.port, username=user, password=password) as redis:
            if user == "health":
                await redis.ping()
                with pytest.raises(NoPermissionError):
                    await redis.get("x")
            else:
                with pytest.raises(AuthenticationError):
                    await redis.ping()


def test_the_access_list_holds_digests_only(guarded: Guarded) -> None:
    text = guarded.credentials.redis_access_list.read_text()
    for user in permissions.USERS:
        assert f"user {user} " in text
        assert Path(guarded.credentials.redis_password(user)).read_text() not in text
