"""The examples in the contracts' README, run as they stand against a real Redis."""

import asyncio
import hashlib
import io
import os
import re
import secrets
import sys
import sysconfig
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from tidemill_console.demo.seasons import FEATURES
from tidemill_contracts.artifacts import table_result_key
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import (
    DataArrived,
    PredictionCompleted,
    PredictionRequested,
    PredictionsCompleted,
    PredictionsRequested,
    TableCompleted,
    TableRequested,
)
from tidemill_contracts.prediction import CompletedPrediction, CompletedPredictions, RefusedRows
from tidemill_contracts.registry import parse_as
from tidemill_contracts.streams import stream_key
from tidemill_contracts.table import CompletedTable
from tidemill_shared import permissions
from tidemill_shared.testing.platform import Platform

README = Path(__file__).resolve().parents[2] / "contracts" / "README.md"


def examples(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)


async def run(*command: str, env: Mapping[str, str], cwd: Path) -> str:
    """Standard output of a command that must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command, env=env, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.fixture
async def env(platform: Platform) -> AsyncIterator[dict[str, str]]:
    """What the examples read from their environment, with the users that an installation has."""
    environment = dict(os.environ) | {
        "TIDEMILL_NAMESPACE": platform.namespace,
        "TIDEMILL_STORE__BUCKET": platform.store.bucket,
    }
    for namespace in (platform.namespace, "tidemill"):
        for rule in permissions.rules(namespace):
            if rule.user in ("producer", "consumer"):
                user, password = f"{rule.user}-{namespace}", secrets.token_hex(8)
                _, _, *words = rule.line(password).split()
                await platform.redis.execute_command("ACL", "SETUSER", user, *words)
                url = f"redis://{user}:{password}@127.0.0.1:{platform.servers.redis_port}/0"
                prefix = "SHELL_" if namespace == "tidemill" else ""
                environment[f"{prefix}{rule.user.upper()}_URL"] = url
    yield environment
    for namespace in (platform.namespace, "tidemill"):
        await platform.redis.execute_command("ACL", "DELUSER", f"producer-{namespace}", f"consumer-{namespace}")


async def test_publishing_new_data(platform: Platform, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "season-1915.csv").write_text("at_bats,home_runs\n480,11\n")
    script = examples("python")[0]
    await run(sys.executable, "-c", script, env=env, cwd=tmp_path)
    await run(sys.executable, "-c", script, env=env, cwd=tmp_path)
    first, second = await platform.events(DataArrived)
    assert first.id == second.id
    assert first.pipeline == "home-runs"
    assert first.data.uri == f"s3://{platform.store.bucket}/raw/home-runs/{first.data.sha256}.csv"
    assert first.data.size == 25


async def test_asking_for_predictions_and_reading_results(
    platform: Platform, env: dict[str, str], tmp_path: Path
) -> None:
    reading = asyncio.create_task(run(sys.executable, "-c", examples("python")[1], env=env, cwd=tmp_path))
    request = await platform.wait_for(PredictionRequested, pipeline="home-runs")
    assert set(request.data.features) == set(FEATURES)
    answer = CompletedPrediction(
        prediction_id=request.id, prediction=True, model_version="0" * 12, dataset_version="1" * 12
    )
    results = stream_key(platform.namespace, PredictionCompleted.type_name(), "home-runs")
    await platform.redis.xadd(results, {FIELD: b"not an event"})
    await platform.publish(PredictionCompleted.caused_by(request, answer))
    out = await reading
    assert "skipped" in out
    assert CompletedPrediction.from_json(out.splitlines()[-1]) == answer
    assert (await platform.redis.xpending(results, "dashboard"))["pending"] == 0


async def test_asking_for_a_table(platform: Platform, env: dict[str, str], tmp_path: Path) -> None:
    reading = asyncio.create_task(run(sys.executable, "-c", examples("python")[2], env=env, cwd=tmp_path))
    table = await platform.wait_for(PredictionsRequested, pipeline="home-runs")
    assert [row.data.features["at_bats"] for row in table.each()] == [540, 584]
    assert {name for row in table.each() for name in row.data.features} == set(FEATURES)
    answer = CompletedPredictions(
        prediction_ids=("ruth-1927",),
        predictions=(True,),
        refused=(RefusedRows(prediction_ids=("gehrig-1927",), error="expired", message="too late"),),
        model_version="0" * 12,
        dataset_version="1" * 12,
    )
    await platform.publish(PredictionsCompleted.caused_by(table, answer))
    assert (await reading).splitlines() == ["ruth-1927 True 000000000000", "expired too late gehrig-1927"]


async def test_asking_for_a_large_table(platform: Platform, env: dict[str, str], tmp_path: Path) -> None:
    servers = platform.servers
    env |= {
        "TIDEMILL_STORE__ENDPOINT": f"127.0.0.1:{servers.store_port}",
        "TIDEMILL_STORE__ACCESS_KEY": servers.access_key,
        "TIDEMILL_STORE__SECRET_KEY": servers.secret_key,
    }
    reading = asyncio.create_task(run(sys.executable, "-c", examples("python")[3], env=env, cwd=tmp_path))
    asked = await platform.wait_for(TableRequested, pipeline="home-runs", timeout=60)
    table = pa.ipc.open_file(await platform.store.get(asked.data.table)).read_all()
    assert set(table.column_names) == {"prediction_id", *FEATURES}
    answers = pa.table(
        {"prediction_id": table["prediction_id"], "prediction": [True, None], "error": [None, "expired"]}
    )
    out = io.BytesIO()
    with pa.ipc.new_file(out, answers.schema) as writer:
        writer.write_table(answers)
    digest = hashlib.sha256(out.getvalue()).hexdigest()
    completed = CompletedTable(
        table_id=asked.id,
        table=asked.data.table,
        result=await platform.store.put(table_result_key("home-runs", digest), out.getvalue()),
        rows=2,
        refused=1,
        model_version="0" * 12,
        dataset_version="1" * 12,
    )
    await platform.publish(TableCompleted.caused_by(asked, completed))
    assert (await reading).splitlines() == [
        "ruth-1927 True None 000000000000",
        "gehrig-1927 None expired 000000000000",
    ]


async def test_the_same_with_redis_cli(platform: Platform, env: dict[str, str], tmp_path: Path) -> None:
    example = next(block for block in examples("sh") if "redis-cli" in block)
    # The example's streams are those of the default namespace.
    env |= {name: env[f"SHELL_{name}"] for name in ("PRODUCER_URL", "CONSUMER_URL")}
    env["PATH"] = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    requests, results = (
        stream_key("tidemill", kind, "home-runs") for kind in ("prediction.requested.v1", "prediction.completed.v1")
    )
    await platform.redis.delete(requests, results)
    await platform.redis.xadd(results, {FIELD: b"the result"})
    try:
        out = await run("sh", "-ec", example, env=env, cwd=tmp_path)
        ((_, fields),) = await platform.redis.xrange(requests)
    finally:
        await platform.redis.delete(requests, results)
    assert "the result" in out
    event = parse_as(PredictionRequested, fields[FIELD.encode()])
    assert set(event.data.features) == set(FEATURES)  # the example's use case can answer it
