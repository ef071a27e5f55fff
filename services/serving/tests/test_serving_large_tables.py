"""Large tables: an Arrow object is answered by another, row by row, and the first answer to an id stands."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tidemill_contracts.artifacts import ArtifactRef, table_input_key
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import EventDeadLettered, ModelDeployed, TableCompleted, TableFailed, TableRequested
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_contracts.streams import stream_key
from tidemill_contracts.table import RequestedTable
from tidemill_serving.app import build
from tidemill_serving.settings import ServingGroup, ServingSettings
from tidemill_shared.store import reference
from tidemill_shared.testing.platform import Platform

ROWS = 20_000


def table(rows: int = ROWS) -> pa.Table:
    """Rows of which each 50th has a colour that the model never saw."""
    random = np.random.default_rng(0)
    return pa.table(
        {
            "weight": random.normal(size=rows),
            "height": pa.array(random.integers(-2, 3, rows), pa.int8(), mask=np.arange(rows) % 7 == 0),
            "prediction_id": [f"row-{i}" for i in range(rows)],
            "colour": pa.array(np.where(np.arange(rows) % 50 == 49, "mauve", "red")).dictionary_encode(),
            "more": [b"ignored"] * rows,
        }
    )


def bytes_of(rows: pa.Table, *, stream: bool = False, compression: str | None = None) -> bytes:
    out = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(out, rows.schema, options=options) as writer:
        writer.write_table(rows, max_chunksize=3_000)
    return out.getvalue()


async def stored(platform: Platform, data: bytes) -> ArtifactRef:
    return await platform.store.put(table_input_key("sales", reference("x", data).sha256), data)


def asked(ref: ArtifactRef, id_: str, **more: Any) -> TableRequested:
    payload = RequestedTable(table=ref, **more)
    return TableRequested.root(payload, subject="sales", source="urn:test", id=id_)


async def answer(platform: Platform, id_: str) -> tuple[TableCompleted, pa.Table]:
    event = await platform.wait_for(TableCompleted, lambda e: e.data.table_id == id_, pipeline="sales", timeout=60)
    data = await platform.store.get(event.data.result)
    return event, pa.ipc.open_file(pa.BufferReader(data)).read_all()


@pytest.mark.slow
async def test_every_row_of_a_table_is_answered_or_refused(
    platform: Platform, spec: PipelineSpec, promote: Any, probability: Any
) -> None:
    await platform.declare(spec)
    await promote(1, bias=0.5)
    rows = table()
    file = await stored(platform, bytes_of(rows))
    stream = await stored(platform, bytes_of(rows, stream=True, compression="zstd"))
    async with platform.running(build(platform.settings(ServingSettings))):
        await platform.publish(asked(file, "file"), asked(stream, "stream"))
        event, found = await answer(platform, "file")
        again, same = await answer(platform, "stream")
    assert found.equals(same)
    assert event.data.result == again.data.result  # named by its content
    assert found["prediction_id"].to_pylist() == rows["prediction_id"].to_pylist()
    assert (event.data.rows, event.data.refused) == (ROWS, ROWS // 50)
    assert event.data.errors == {"unknown_category": ROWS // 50}
    for row, given in zip(found.to_pylist()[:200], rows.to_pylist(), strict=False):
        if given["colour"] == "mauve":
            assert (row["prediction"], row["error"], row["field"]) == (None, "unknown_category", "colour")
            continue
        expected = probability(given, 0.5)
        assert row["probabilities"] == pytest.approx([1 - expected, expected], abs=1e-5)
        assert row["prediction"] == ("yes" if expected >= 0.5 else "no")
        assert (row["model_version"], row["error"]) == (event.data.model_version, None)


async def test_the_first_answer_to_an_id_stands_whatever_is_promoted(
    platform: Platform, spec: PipelineSpec, promote: Any
) -> None:
    await platform.declare(spec)
    await promote(1, bias=0.5)
    ref, other = await stored(platform, bytes_of(table(10))), await stored(platform, bytes_of(table(11)))
    async with platform.running(build(platform.settings(ServingSettings))):
        await platform.publish(asked(ref, "once"))
        first, _ = await answer(platform, "once")
        await platform.publish(promoted := await promote(2, bias=-3.0))
        await platform.wait_for(ModelDeployed, lambda e: e.data.sequence == 2, timeout=60)
        request = (await platform.events(TableRequested, "sales"))[0]
        await platform.publish(request, asked(ref, "later"), asked(other, "once"))
        later, _ = await answer(platform, "later")
        refused = await platform.wait_for(TableFailed, pipeline="sales", timeout=60)
        answers = [e for e in await platform.events(TableCompleted, "sales") if e.data.table_id == "once"]
    assert [e.to_json() for e in answers] == [first.to_json()] * 2
    assert later.data.model_version == promoted.data.version != first.data.model_version
    assert [reason.code for reason in refused.data.reasons] == ["id_reused"]


@pytest.mark.slow
async def test_a_table_that_cannot_be_read_is_refused_as_a_whole(
    platform: Platform, spec: PipelineSpec, promote: Any
) -> None:
    await platform.declare(spec)
    rows = table(20)
    good = await stored(platform, bytes_of(rows))
    twice = pa.concat_tables([rows, rows])
    ids = rows.schema.get_field_index("prediction_id")
    elsewhere = await platform.store.put("raw/sales/x.arrow", bytes_of(rows))
    numbered = rows.set_column(ids, "prediction_id", pa.array(range(20)))
    cases = {
        "checksum": good.model_copy(update={"sha256": "0" * 64}),
        "missing_object": good.model_copy(update={"key": "tables/sales/inputs/none.arrow"}),
        "elsewhere": elsewhere,
        "unreadable": await stored(platform, b"PAR1 is no Arrow"),
        "unreadable-cut": await stored(platform, bytes_of(rows, stream=True)[:-400]),
        "unreadable-twice": await stored(platform, bytes_of(rows.append_column("colour", rows["colour"]))),
        "missing_column": await stored(platform, bytes_of(rows.drop_columns(["weight"]))),
        "invalid_ids-twice": await stored(platform, bytes_of(twice)),
        "invalid_ids-number": await stored(platform, bytes_of(numbered)),
        "too_large-rows": await stored(platform, bytes_of(table(31))),
        "too_large-bytes": good.model_copy(update={"size": 10**9}),
    }
    service = build(platform.settings(ServingSettings, serving=ServingGroup(table_rows=30)))
    async with platform.running(service):
        await platform.publish(asked(good, "no_model"))
        early = await platform.wait_for(TableFailed, pipeline="sales", timeout=60)
        assert early.data.reasons[0].code == "no_model"
        await platform.publish(await promote(1))
        await platform.wait_for(ModelDeployed, timeout=60)
        stream = stream_key(platform.namespace, TableRequested.type_name(), "sales")
        await platform.redis.xadd(stream, {FIELD: b"no event"})
        await platform.publish(asked(good, "expired", expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        await platform.publish(*(asked(ref, id_) for id_, ref in cases.items()), asked(good, "good"))
        await answer(platform, "good")
        failed = {e.data.table_id: e.data.reasons[0].code for e in await platform.events(TableFailed, "sales")}
        await platform.wait_for(EventDeadLettered, lambda e: e.data.stream == stream, timeout=60)
    assert failed == {"no_model": "no_model", "expired": "expired"} | {id_: id_.partition("-")[0] for id_ in cases}
