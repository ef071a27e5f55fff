"""What an operator does who errs: rows with wrong labels, and a training on nothing else."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tidemill_console.acceptance.specification import KEY, TARGET, TIME
from tidemill_console.acceptance.stream import Misled
from tidemill_console.commands.data import publish_file
from tidemill_console.connection import Client
from tidemill_contracts.envelope import content_id
from tidemill_contracts.events import DataArrived, TrainingRequested
from tidemill_contracts.model import RequestedTraining, RowSelection


async def publish(client: Client, pipeline: str, misled: Misled, first_key: int, run: str) -> DataArrived:
    """Publish the rows; their keys begin with ``first_key``."""
    rows = misled.table.copy()
    rows[TARGET] = misled.labels
    rows[KEY] = np.arange(len(rows)) + first_key
    rows[TIME] = [misled.moment(number).isoformat() for number in range(len(rows))]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "misled.parquet"
        rows.to_parquet(file, index=False)
        return await publish_file(client, pipeline, file, ".parquet", content_id("misled", run))


async def train(client: Client, pipeline: str, misled: Misled) -> TrainingRequested:
    """Ask for a training on the rows from the first of them on."""
    asked = RequestedTraining(reason="misled", rows=RowSelection(since=misled.moment(0)), force=True)
    event = TrainingRequested.root(asked, subject=pipeline, source="urn:tidemill:acceptance")
    await client.bus.offer(event)
    return event
