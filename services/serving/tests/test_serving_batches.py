"""A batch through the service: every row once, also when the service is killed in the middle."""

import asyncio
import io
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill_contracts.artifacts import ArtifactRef, batch_input_key, batch_key
from tidemill_contracts.batch import BatchManifest, BatchPlan, RequestedBatch
from tidemill_contracts.events import BatchCompleted, BatchFailed, BatchProgressed, BatchRequested
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_serving.app import build
from tidemill_serving.settings import ServingGroup, ServingSettings
from tidemill_shared.signing import Signer, generate_keys
from tidemill_shared.store import reference
from tidemill_shared.testing.platform import Platform


async def stored(platform: Platform, rows: int) -> ArtifactRef:
    """Rows of which each 50th has a colour that the model never saw."""
    random = np.random.default_rng(0)
    colours = np.where(np.arange(rows) % 50 == 49, "mauve", "red")
    numbers = {name: random.normal(size=rows) for name in ("height", "weight")}
    out = io.BytesIO()
    pq.write_table(pa.table(numbers | {"colour": colours}), out, row_group_size=3_000)
    ref = reference("x", out.getvalue())
    return await platform.store.put(batch_input_key("sales", ref.sha256, ".parquet"), out.getvalue())


def requested(input_: ArtifactRef, id_: str, **changes: Any) -> BatchRequested:
    return BatchRequested.root(RequestedBatch(input=input_, **changes), subject="sales", source="urn:test", id=id_)


async def results(platform: Platform, completed: BatchCompleted) -> pa.Table:
    manifest = await platform.store.document(completed.data.manifest, BatchManifest)
    tables = [pq.read_table(io.BytesIO(await platform.store.get(part.file))) for part in manifest.parts]
    assert [t.num_rows for t in tables] == [part.rows for part in manifest.parts]
    assert (manifest.rows, manifest.failed) == (completed.data.rows, completed.data.failed)
    return pa.concat_tables(tables)


async def test_a_batch_is_answered_row_by_row(platform: Platform, spec: PipelineSpec, promote: Any) -> None:
    await platform.declare(spec)
    await promote(1, bias=0.0)
    service = build(platform.settings(ServingSettings, serving=ServingGroup(batch_part_rows=400)))
    source = await stored(platform, 1_000)
    async with platform.running(service):
        await platform.publish(requested(source, "first"))
        completed = await platform.wait_for(BatchCompleted)
        wrong = source.model_copy(update={"sha256": "0" * 64})
        missing = source.model_copy(update={"key": "batches/sales/inputs/none.parquet"})
        strange = await platform.store.put("batches/sales/inputs/rows.xlsx", b"x")
        cases = {"wrong": wrong, "missing": missing, "strange": strange}
        await platform.publish(*(requested(ref, id_) for id_, ref in cases.items()))
        await platform.publish(requested(source, "column", row_id="nothing"))
        failed = {
            id_: (await platform.wait_for(BatchFailed, lambda e, i=id_: e.data.batch == i)).data.reasons[0].code  # type: ignore[misc]
            for id_ in (*cases, "column")
        }
    found = await results(platform, completed)
    assert found["row"].to_pylist() == list(range(1_000))
    errors = found["error"].to_pylist()
    assert [i for i, e in enumerate(errors) if e] == list(range(49, 1_000, 50))
    assert set(found["prediction"].to_pylist()) == {"yes", "no", None}
    assert (completed.data.parts, completed.data.rows, completed.data.failed) == (3, 1_000, 20)
    assert [e.data.rows for e in await platform.events(BatchProgressed)] == [400, 800, 1_000]
    assert failed == {
        "wrong": "checksum",
        "missing": "missing_object",
        "strange": "unknown_format",
        "column": "missing_column",
    }


async def test_a_plan_in_the_bucket_brings_no_model_in(platform: Platform, spec: PipelineSpec, promote: Any) -> None:
    await platform.declare(spec)
    trusted = await promote(1, bias=0.0)
    private = platform.directory / "foreign.pem"
    private.write_bytes(generate_keys()[0])
    foreign = await promote(2, bias=3.0, signer=Signer(private))
    source = await stored(platform, 100)

    async def planted(id_: str, promotion: int, version: str) -> None:
        plan = BatchPlan(
            batch=id_, model_version=version, dataset_version="0123456789ab", promotion=promotion, part_rows=400
        )
        await platform.store.put_document(batch_key("sales", id_, "plan.json"), plan)
        await platform.publish(requested(source, id_))

    async with platform.running(build(platform.settings(ServingSettings))):
        await planted("foreign", 2, foreign.data.version)
        await planted("other", 1, foreign.data.version)
        await planted("nowhere", 9, trusted.data.version)
        codes = {
            id_: (await platform.wait_for(BatchFailed, lambda e, i=id_: e.data.batch == i)).data.reasons[0].code  # type: ignore[misc]
            for id_ in ("foreign", "other", "nowhere")
        }
    assert codes == {"foreign": "signature", "other": "plan", "nowhere": "manifest"}
    assert not await platform.events(BatchCompleted)


@pytest.mark.slow
async def test_a_service_killed_in_the_middle_goes_on_after_the_last_finished_part(
    platform: Platform, spec: PipelineSpec, promote: Any
) -> None:
    await platform.declare(spec)
    await promote(1, bias=0.0)
    source = await stored(platform, 400_000)
    await platform.publish(requested(source, "big"))
    command = sys.executable, "-m", "tidemill_serving"
    keys = platform.settings(ServingSettings).keys
    environment = platform.environment(
        KEYS__PUBLIC_FILE=str(keys.public_file),
        KEYS__PROMOTION_PUBLIC_FILE=str(keys.promotion_public_file),
        SERVING__BATCH_PART_ROWS="8192",
        SERVING__BATCH_DIRECTORY=str(platform.directory),
    )
    killed = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        await platform.wait_for(BatchProgressed, lambda e: e.data.parts >= 3)
    finally:
        killed.kill()
        await killed.wait()
    before = await platform.events(BatchProgressed)
    assert not await platform.events(BatchCompleted)
    # The model promoted meanwhile has no part in it: a batch is one model's.
    await promote(2, bias=3.0)
    service = build(
        platform.settings(
            ServingSettings, serving=ServingGroup(batch_part_rows=400_000, batch_directory=platform.directory)
        )
    )
    async with platform.running(service):
        completed = await platform.wait_for(BatchCompleted, timeout=60)
    parts = [e.data.parts for e in await platform.events(BatchProgressed)]
    assert parts[len(before) :] == list(range(before[-1].data.parts + 1, completed.data.parts + 1)) or (
        # the last one's record was written, and its event was not
        parts[len(before) :] == list(range(before[-1].data.parts + 2, completed.data.parts + 1))
    )
    found = await results(platform, completed)
    assert found["row"].to_pylist() == list(range(400_000))
    assert found["model_version"].unique().to_pylist() == [completed.data.model_version]
    assert sum(e is not None for e in found["error"].to_pylist()) == 8_000 == completed.data.failed
    assert not list(platform.directory.glob("tidemill-batch-*")), "what the killed process left behind is cleared"
    assert len(await platform.events(BatchCompleted)) == 1
