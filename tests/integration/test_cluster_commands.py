"""The command on a Redis Cluster: what a person asks finds the master that holds it."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tidemill_console.app import app
from tidemill_contracts.artifacts import promotion_key
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import EventDeadLettered, ModelPromoted, PredictionRequested
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.promotion import Promotion
from tidemill_contracts.streams import stream_key
from tidemill_serving.app import build
from tidemill_serving.settings import ServingSettings
from tidemill_shared.seal import PromotionSeal
from tidemill_shared.testing.platform import Platform
from tidemill_shared.testing.servers import Servers

Tidemill = Callable[..., Awaitable[Result]]


@pytest.fixture
async def platform(cluster: Servers, signing_keys: tuple[Path, Path], tmp_path: Path) -> AsyncIterator[Platform]:
    async with Platform.open(cluster, signing_keys, tmp_path) as opened:
        yield opened


@pytest.fixture
def tidemill(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Tidemill:
    """The command, as somebody runs it whose variables name the cluster."""
    for name, value in platform.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    async def run(*words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, [*words])

    return run


def requests_of(platform: Platform, pipeline: str) -> str:
    return stream_key(platform.namespace, PredictionRequested.type_name(), pipeline)


def spread(platform: Platform) -> list[str]:
    """Names of three pipelines, one on each master."""
    found = {id(platform.bus.nodes.of(requests_of(platform, f"p{n}"))): f"p{n}" for n in range(1_000)}
    assert len(found) == 3
    return list(found.values())


async def test_what_a_person_asks_of_a_cluster(
    platform: Platform, tidemill: Tidemill, packed: Any, tmp_path: Path
) -> None:
    names = spread(platform)
    seal = PromotionSeal.of(platform.settings(ServingSettings).keys)

    async def done(*words: str) -> Any:
        result = await tidemill(*words)
        assert result.exit_code == 0, (words, result.output)
        return result

    for name in names:
        file = tmp_path / f"{name}.json"
        file.write_text(PipelineSpec(name=name, task="regression", target="y", primary="mae").model_dump_json())
        await done("declare", str(file))
        promotion = Promotion(sequence=1, promoted_at="2026-01-01T00:00:00Z", **await packed(platform, 2.0, name))
        await platform.store.put_document(promotion_key(name, 1), seal.sealed(promotion))
    rows = tmp_path / "rows.csv"
    rows.write_text("x\n1.0\n2.0\n3.0\n")
    async with platform.running(build(platform.settings(ServingSettings))):
        for name in names:
            out = tmp_path / f"{name}.jsonl"
            told = await done("predict", name, str(rows), "--json", "-o", str(out))
            assert json.loads(told.stdout) == {"rows": 3, "completed": 3, "failed": 0, "missing": 0}
            records = [json.loads(line) for line in out.read_text().splitlines()]
            assert [r["prediction"] for r in records] == [2.0, 4.0, 6.0]
            labels = tmp_path / "labels.csv"
            labels.write_text("prediction_id,label\n" + "".join(f"{r['prediction_id']},2.0\n" for r in records))
            await done("labels", name, str(labels))
            scored = json.loads((await done("score", name, str(rows), "--json")).stdout)
            assert (scored["rows"], scored["failed"]) == (3, 0)
            seen = await done("trace", records[0]["prediction_id"])
            assert "prediction.requested" in seen.output
            stream = requests_of(platform, name)
            await platform.bus.nodes.of(stream).xadd(stream, {FIELD: b"no event"})
            await platform.wait_for(EventDeadLettered, lambda e, s=stream: e.data.stream == s, timeout=60)
        status = json.loads((await done("status", "--json")).stdout)
        assert status["dead_letters"] == 3
        letters = json.loads((await done("dead-letters", "list", "--json")).stdout)
        assert {letter["stream"] for letter in letters} == {requests_of(platform, name) for name in names}
        shown = json.loads((await done("dead-letters", "show", letters[0]["id"])).stdout)
        assert shown["body"] == "no event"
        await done("dead-letters", "drop", letters[0]["id"])
    for letter in letters[1:]:
        await done("dead-letters", "replay", letter["id"])
    assert json.loads((await done("dead-letters", "list", "--json")).stdout) == []
    await done("publish", names[0], str(rows), "--id", "monday")
    await done("status")
    await done("train", names[0])
    await done("trial", "show", names[0])
    watched = await done("watch", "--pipeline", names[1], "--past", "--seconds", "0.5")
    assert "prediction.completed" in watched.output and "model.deployed" not in watched.output
    await done("report", names[0], "--out", str(tmp_path / "report.html"))
    taken = json.loads((await done("backup", "--to", str(tmp_path / "copy"), "--json")).stdout)
    assert taken["objects"] > 0
    restored = json.loads((await done("restore", "--from", str(tmp_path / "copy"), "--json")).stdout)
    assert restored["events"]["data.arrived.v1"] == 1 and restored["events"]["model.promoted.v1"] == 3
    found = [e.id for e in await platform.events(ModelPromoted)]
    assert len(found) == 3
