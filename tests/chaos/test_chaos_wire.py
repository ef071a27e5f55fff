"""What a broken connection does to the kit: answers that are lost or spoilt on their way."""

import asyncio
import hashlib

import pytest
from faultkit.proxy import Proxy

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.envelope import FIELD
from tidemill_shared.delivery import Mailbox
from tidemill_shared.errors import ChecksumMismatch, StoreUnavailable
from tidemill_shared.settings import Settings
from tidemill_shared.store import Store
from tidemill_shared.testing.platform import Platform


async def test_bytes_that_are_spoilt_on_their_way_are_read_again(platform: Platform) -> None:
    ref = await platform.store.put("raw/demo/a.bin", b"hello" * 100)
    proxy = Proxy(platform.servers.store_port)
    await proxy.start()
    settings = platform.settings(Settings).store.model_copy(update={"endpoint": f"127.0.0.1:{proxy.port}"})
    store = Store(settings)
    try:
        proxy.faults.flip_next = 2
        assert await store.get(ref) == b"hello" * 100
        assert proxy.faults.flip_next == 0
        proxy.faults.flip_next = 3
        with pytest.raises(ChecksumMismatch):
            await store.get(ref)
        wrong = ArtifactRef(key=ref.key, sha256=hashlib.sha256(b"other").hexdigest(), size=ref.size)
        with pytest.raises(ChecksumMismatch):
            await store.get(wrong)
    finally:
        store.close()
        await proxy.stop()


async def test_an_object_whose_digest_nobody_knows_is_checked_too(platform: Platform) -> None:
    await platform.store.put("inbox/a.json", b'{"accepted":true}' * 10)
    proxy = Proxy(platform.servers.store_port)
    await proxy.start()
    store = Store(platform.settings(Settings).store.model_copy(update={"endpoint": f"127.0.0.1:{proxy.port}"}))
    try:
        proxy.faults.flip_next = 2
        assert await store.read("inbox/a.json") == b'{"accepted":true}' * 10
        assert proxy.faults.flip_next == 0
        proxy.faults.flip = 1.0
        with pytest.raises(StoreUnavailable):
            await store.read("inbox/a.json")
    finally:
        store.close()
        await proxy.stop()


async def test_what_the_dead_left_is_taken_over_in_one_claim(platform: Platform) -> None:
    """One a round trip: with an answer in twenty lost, a hundred entries would hardly ever be taken over."""
    redis, stream = platform.redis, f"{{{platform.namespace}}}:data.arrived.v1"
    dead, heir = (Mailbox(redis, platform.namespace, "g", name, 0.05) for name in ("dead", "heir"))
    await dead.open([stream])
    for _ in range(100):
        await redis.xadd(stream, {FIELD: b"{}"})
    await redis.xreadgroup("g", "dead", {stream: ">"}, count=100)
    while len(await redis.xpending_range(stream, "g", "-", "+", 100, idle=50)) < 100:
        await asyncio.sleep(0.01)
    before = await _claims(platform)
    taken = await heir.reclaim(stream, 100)
    assert len(taken) == 100
    assert all(d.deliveries == 2 for d in taken)
    assert await _claims(platform) - before == 1


async def _claims(platform: Platform) -> int:
    stats = await platform.redis.info("commandstats")
    return int(stats.get("cmdstat_xclaim", {}).get("calls", 0))
