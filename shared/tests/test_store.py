import asyncio
import hashlib
import os
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tidemill_contracts.artifacts import ArtifactRef, promotions_prefix
from tidemill_contracts.prediction import ObservedLabel
from tidemill_shared import skew
from tidemill_shared.append_log import AppendLog
from tidemill_shared.errors import ChecksumMismatch, ObjectMissing, Poison
from tidemill_shared.store import Store
from tidemill_shared.testing.platform import Platform


async def test_what_is_put_is_got_and_verified(platform: Platform, tmp_path: Path) -> None:
    store = platform.store
    ref = await store.put("raw/demo/a.bin", b"hello")
    assert await store.get(ref) == b"hello"
    assert (await store.get_file(ref, tmp_path / "copy")).read_bytes() == b"hello"
    wrong = ArtifactRef(key=ref.key, sha256=hashlib.sha256(b"other").hexdigest(), size=5)
    for read in (store.get(wrong), store.get_file(wrong, tmp_path / "wrong"), store.cached(wrong)):
        with pytest.raises(ChecksumMismatch):
            await read
    assert not (tmp_path / "wrong").exists()
    cached = await store.cached(ref)
    assert cached.read_bytes() == b"hello"
    assert await store.cached(ref) == cached


async def test_a_full_cache_makes_room_while_others_fill_it(platform: Platform) -> None:
    refs = [await platform.store.put(f"raw/demo/{i}.bin", bytes([i]) * 1_000) for i in range(12)]
    store = Store(platform._store.model_copy(update={"cache_bytes": 10_000}))
    paths = [await store.cached(ref) for ref in refs]
    assert [path.exists() for path in paths] == [False] * 2 + [True] * 10
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            handle, name = tempfile.mkstemp(dir=paths[-1].parent, prefix=".part-")
            os.close(handle)
            Path(name).unlink()

    others = [asyncio.create_task(asyncio.to_thread(come_and_go)) for _ in range(3)]
    try:
        for _ in range(200):
            paths[-1].unlink()
            await store.cached(refs[-1])
    finally:
        ended.set()
        await asyncio.gather(*others)


async def test_no_more_is_read_than_was_stated(platform: Platform) -> None:
    ref = await platform.store.put("raw/demo/large.bin", b"x" * 3_000_000)
    assert len(platform.store._read(ref.key, 5)) == 6
    for size in (5, 2_999_999, 3_000_001):
        with pytest.raises(ChecksumMismatch):
            await platform.store.get(ref.model_copy(update={"size": size}))
    assert len(await platform.store.get(ref)) == 3_000_000
    assert len(await platform.store.read(ref.key) or b"") == 3_000_000
    empty = await platform.store.put("raw/demo/empty.bin", b"")
    assert await platform.store.get(empty) == b""


async def test_missing_objects_are_told_apart_from_outages(platform: Platform) -> None:
    missing = ArtifactRef(key="raw/none", sha256="0" * 64, size=1)
    assert await platform.store.read("raw/none") is None
    assert await platform.store.stat("raw/none") is None
    with pytest.raises(ObjectMissing):
        await platform.store.get(missing)
    await platform.store.delete("raw/none")


async def test_an_append_log_knows_its_last_entry(platform: Platform) -> None:
    log = AppendLog(platform.store, promotions_prefix("demo"), ObservedLabel)
    assert await log.last() is None
    for number in (1, 2):
        await log.append(number, ObservedLabel(prediction_id=f"p{number}", label=number))
    other = AppendLog(platform.store, promotions_prefix("demo"), ObservedLabel)
    await other.append(3, ObservedLabel(prediction_id="p3", label=3))
    last = await log.last()
    assert last is not None and last[0] == 3 and last[1].prediction_id == "p3"
    assert [n for n, _ in await log.entries()] == [1, 2, 3]
    with pytest.raises(Poison):
        await log.append(3, ObservedLabel(prediction_id="p", label=0))


async def test_an_entry_that_is_named_before_it_can_be_read_is_waited_for(platform: Platform) -> None:
    log = AppendLog(platform.store, promotions_prefix("demo"), ObservedLabel)
    ref = await log.append(1, ObservedLabel(prediction_id="p1", label=1))
    entry = await platform.store.get(ref)
    assert await log.height() == 1
    await platform.store.delete(ref.key)
    finding = asyncio.create_task(log.last())
    await asyncio.sleep(0.02)  # it has looked, and found nothing
    await platform.store.put(ref.key, entry)
    found = await finding
    assert found is not None and found[1].prediction_id == "p1"


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_an_hour_off_the_stores_is_set_right(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    monkeypatch.setattr(skew, "_offset", timedelta(hours=hours))
    ref = await platform.store.put("raw/demo/late.bin", b"hello")
    assert await platform.store.get(ref) == b"hello"
    assert abs(skew.now() - datetime.now(UTC)) < timedelta(minutes=1)


async def test_an_entry_that_was_never_there_is_forgotten(platform: Platform) -> None:
    log = AppendLog(platform.store, promotions_prefix("demo"), ObservedLabel)
    await log.append(1, ObservedLabel(prediction_id="p1", label=1))
    ghost = await log.append(2, ObservedLabel(prediction_id="p2", label=2))
    assert await log.height() == 2
    await platform.store.delete(ghost.key)
    with pytest.raises(ObjectMissing):
        await log.last()
    last = await log.last()
    assert last is not None
    assert last[0] == 1
