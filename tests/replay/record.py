"""Record a history for the replay test: ``tidemill demo --until 1935 --pace wait --keep``, then this.

    python tests/replay/record.py [--directory .tidemill]

Writes ``history-<version>.tar.xz`` beside this file: what came in (rows, specifications, packages), the events in their
order, and the registry it led to. The rows are the demo's, see its ATTRIBUTION.md. Of the stack's keys it holds the
public one that packages are verified with.
"""

import argparse
import asyncio
import io
import json
import tarfile
from importlib.metadata import version
from pathlib import Path

from tidemill_console.stack import Stack
from tidemill_contracts.streams import stream_key
from tidemill_shared.bus import Bus
from tidemill_shared.store import Store

INPUTS = ("pipelines/", "raw/", "packages/", "models/")
NEEDLESS = ("model.skops", "explanation.json", "evaluation.json", "model-card.md")
EVENTS = ("data.arrived.v1", "model.packaged.v1")


async def record(stack: Stack, target: Path) -> None:
    """Read a running stack, write the file."""
    settings = stack.settings()
    store = Store(settings.store)
    await store.start()
    bus = Bus("console", settings.redis, namespace=settings.namespace)
    with tarfile.open(target, "w:xz", preset=9) as archive:
        for key in await store.list(""):
            kept = key.startswith((*INPUTS, "registry/")) and not key.endswith(NEEDLESS)
            data = await store.read(key) if kept else None
            if data is not None:
                _add(archive, f"{'expected' if key.startswith('registry/') else 'objects'}/{key}", data)
        lines = []
        for type_ in EVENTS:
            for entry, fields in await bus.redis.xrange(stream_key(settings.namespace, type_)):
                place = [int(part) for part in entry.decode().split("-")]
                lines.append((place, json.dumps({"type": type_, "body": fields[b"__data__"].decode()})))
        _add(archive, "events.jsonl", "\n".join(line for _, line in sorted(lines)).encode())
        _add(archive, "public.pem", stack.credentials.public_key.read_bytes())
    await bus.redis.aclose()
    store.close()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path(".tidemill"))
    here = Path(__file__).parent
    asyncio.run(record(Stack(parser.parse_args().directory), here / f"history-{version('tidemill-shared')}.tar.xz"))
