"""How many rows have arrived since a change was noticed: from the manifest where it knows, from the files where not."""

from datetime import datetime

from tidemill_contracts.dataset import DatasetManifest, Part
from tidemill_shared.child import Child
from tidemill_shared.store import Store
from tidemill_training.work import count_since


async def rows_since(manifest: DatasetManifest, since: datetime, store: Store, child: Child) -> int:
    """Live rows of all splits with event time ``since`` or later.

    Parts that begin before and end after ``since`` are counted by reading their times. A test part never is: nothing
    here opens the rows that judge the model; of such parts the same share is taken as of the others.
    """
    late = [p for p in manifest.parts if _reaches(p, manifest, since)]
    whole = sum(p.rows for p in late if _whole(p, manifest, since))
    mixed = [p for p in late if not _whole(p, manifest, since)]
    readable = [p for p in mixed if p.split != "test"]
    if not readable:
        return whole
    paths = [await store.cached(p.file) for p in readable]
    counted = sum(await child.run(count_since, paths, since, manifest.from_ordinal))
    share = counted / sum(p.rows for p in readable)
    return whole + counted + int(share * sum(p.rows for p in mixed if p.split == "test"))


def _reaches(part: Part, manifest: DatasetManifest, since: datetime) -> bool:
    alive = part.rows > 0 and part.last_ordinal >= manifest.from_ordinal
    return alive and part.time_max is not None and part.time_max >= since


def _whole(part: Part, manifest: DatasetManifest, since: datetime) -> bool:
    return part.time_min is not None and part.time_min >= since and part.first_ordinal >= manifest.from_ordinal
