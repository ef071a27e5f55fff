"""What an operator does, through the command itself, on a stack that the environment names."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tidemill_console.app import app
from tidemill_contracts.artifacts import ArtifactRef, promotion_key
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import AnchorRequested, DataArrived
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import Promotion
from tidemill_contracts.streams import stream_key
from tidemill_shared.delivery import Completion, Mailbox, delivery_of
from tidemill_shared.halts import Halts
from tidemill_shared.settings import DeliverySettings
from tidemill_shared.testing.platform import Platform

Tidemill = Callable[..., Awaitable[Result]]
SPEC = PipelineSpec(name="sales", task="classification", target="y", primary="accuracy")


@pytest.fixture
def tidemill(platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tidemill:
    """The command, as somebody runs it whose variables name the test's servers."""
    servers = platform.servers
    for name, secret in (("redis", servers.redis_password), ("store", servers.secret_key)):
        (tmp_path / name).write_text(secret)
    for variable, value in {
        "NAMESPACE": platform.namespace,
        "REDIS__URL": servers.redis_url,
        "REDIS__PASSWORD_FILE": str(tmp_path / "redis"),
        "STORE__ENDPOINT": f"127.0.0.1:{servers.store_port}",
        "STORE__ACCESS_KEY": servers.access_key,
        "STORE__SECRET_KEY_FILE": str(tmp_path / "store"),
        "STORE__BUCKET": platform.store.bucket,
    }.items():
        monkeypatch.setenv(f"TIDEMILL_{variable}", value)

    # The command runs beside the test's loop, in a thread, where no signal can be handled.
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    async def run(*words: str) -> Result:
        where = ["--directory", str(tmp_path / "none")]
        return await asyncio.to_thread(CliRunner().invoke, app, [*where, *words])

    return run


def rows(folder: Path, count: int) -> Path:
    file = folder / f"rows-{count}.csv"
    file.write_text("x,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(count)))
    return file


async def test_a_halted_stream_is_seen_and_resumed(platform: Platform, tidemill: Tidemill) -> None:
    halts = Halts(platform.redis, platform.namespace, "training", DeliverySettings(dead_letter_limit=1))
    stream = stream_key(platform.namespace, "model.trained.v1")
    halts.note(stream, 0, 1)
    await halts.look()
    (told,) = json.loads((await tidemill("status", "--json")).stdout)["halted"]
    assert (told["service"], told["stream"]) == ("training", stream)
    said = (await tidemill("status")).output
    assert "training has stopped reading" in said
    assert "tidemill dead-letters resume" in said
    assert "nothing was halted" in (await tidemill("dead-letters", "resume", "--service", "serving")).output
    assert f"training reads {stream} again" in (await tidemill("dead-letters", "resume")).output
    await halts.look()
    assert halts.streams == frozenset()
    assert json.loads((await tidemill("status", "--json")).stdout)["halted"] == []


async def test_an_id_is_for_the_same_rows_only_and_a_full_redis_is_no_refusal(
    platform: Platform, tidemill: Tidemill, tmp_path: Path
) -> None:
    await platform.declare(SPEC)
    first, other = rows(tmp_path, 60), rows(tmp_path, 70)
    for _ in range(2):
        assert (await tidemill("publish", "sales", str(first), "--id", "monday")).exit_code == 0
    refused = await tidemill("publish", "sales", str(other), "--id", "monday")
    assert refused.exit_code == 1
    assert "monday was accepted with other rows" in refused.output
    used = int((await platform.redis.info("memory"))["used_memory"])
    await platform.redis.config_set("maxmemory", int(used / 2))
    try:
        accepted = await tidemill("publish", "sales", str(other), "--id", "tuesday")
    finally:
        await platform.redis.config_set("maxmemory", 0)
    assert accepted.exit_code == 0, accepted.output
    assert "as soon as there is room" in accepted.output
    assert {e.id for e in await platform.events(DataArrived)} == {"monday"}
    assert await platform.store.read("inbox/tuesday.json") is not None


async def test_a_lost_redis_is_told_what_is_owed_and_a_copy_is_whole(
    platform: Platform, tidemill: Tidemill, tmp_path: Path
) -> None:
    await platform.declare(SPEC)
    assert (await tidemill("publish", "sales", str(rows(tmp_path, 60)), "--id", "monday")).exit_code == 0
    keys = await platform.store.list("")
    for place in (str(tmp_path / "copy"), f"s3://{platform.store.bucket}-copy/today"):
        taken = json.loads((await tidemill("backup", "--to", place, "--json")).stdout)
        assert taken["objects"] == len(keys)
        for key in keys:
            await platform.store.delete(key)
        async for key in platform.redis.scan_iter(match=f"{{{platform.namespace}}}*"):
            await platform.redis.delete(key)
        done = json.loads((await tidemill("restore", "--from", place, "--json")).stdout)
        assert done["objects"] == len(keys)
        assert done["events"] == {"pipeline.declared.v1": 1, "data.arrived.v1": 1}
        assert [e.id for e in await platform.events(DataArrived)] == ["monday"]
        assert await platform.store.list("") == keys
    assert (await tidemill("restore", "--from", str(tmp_path / "nowhere"))).exit_code == 1


async def test_a_request_for_an_anchor_names_the_champion_of_now(platform: Platform, tidemill: Tidemill) -> None:
    await platform.declare(SPEC)
    none = await tidemill("anchor", "sales")
    assert none.exit_code == 1
    assert "sales has no champion yet" in none.output
    thing = ArtifactRef(key="packages/sales/thing.json", sha256="0" * 64, size=1)
    promotion = Promotion(
        pipeline="sales",
        sequence=1,
        version="a" * 12,
        manifest=thing,
        attestation=thing,
        report=thing,
        reason="the first",
        cause="cause-0",
        promoted_at=datetime.now(UTC),
    )
    await platform.store.put_document(promotion_key("sales", 1), promotion)
    done = await tidemill("anchor", "sales", "--json")
    assert json.loads(done.stdout)["version"] == "a" * 12
    (asked,) = await platform.events(AnchorRequested)
    assert (asked.data.version, asked.data.anchor) == ("a" * 12, 0)


async def test_letters_come_back_all_at_once(platform: Platform, tidemill: Tidemill) -> None:
    stream = stream_key(platform.namespace, "training.requested.v1")
    box = Mailbox(platform.redis, platform.namespace, "training", "1", 5.0)
    await box.open([stream])
    for _ in range(3):
        await platform.redis.xadd(stream, {FIELD: b"{"})
    reply: Any = await platform.redis.xreadgroup("training", "1", {stream: ">"})
    entries = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
    deliveries = [delivery_of(stream, entry, fields) for entry, fields in entries]
    await box.complete(Completion(dead=[(d, "undecodable", "no JSON") for d in deliveries]))
    assert len(json.loads((await tidemill("dead-letters", "list", "--json")).stdout)) == 3
    assert (await tidemill("dead-letters", "replay")).exit_code == 2
    assert "replayed 0 events" in (await tidemill("dead-letters", "replay", "--all", "--service", "serving")).output
    assert "replayed 3 events" in (await tidemill("dead-letters", "replay", "--all")).output
    assert json.loads((await tidemill("dead-letters", "list", "--json")).stdout) == []
    assert await platform.redis.xlen(stream) == 6
