"""A copy of the bucket that is whole at every moment, and back."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tidemill_console.recovery.place import Place
from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.document import Document
from tidemill_shared.errors import ChecksumMismatch, ObjectMissing, TidemillError
from tidemill_shared.store import Store, file_reference

LIST = "backup.json"
_BULK = ("raw/", "datasets/", "predictions/")
"""Written once and large: not copied a second time into the same backup."""
_HEADS = ("registry/", "outcomes/", "inbox/", "reports/", "pipelines/")
Progress = Callable[[str], None]


class Backup(Document):
    """What a backup holds; written last, so that a backup without it is none."""

    taken_at: datetime
    objects: tuple[ArtifactRef, ...]


def _is_head(key: str) -> bool:
    """Whether an object names others."""
    return key.startswith(_HEADS) or key.endswith(("/manifest.json", "/manifest.dsse.json"))


async def take(store: Store, target: Place, say: Progress) -> Backup:
    """Copy every object. What names others comes from a first listing and the rest from a second, later one, so that
    nothing in the backup names an object that it lacks, whatever is written meanwhile."""
    heads = {key for key in await store.list("") if _is_head(key)}
    keys = sorted({key for key in await store.list("") if not _is_head(key)} | heads, key=lambda k: (_is_head(k), k))
    with TemporaryDirectory(prefix="tidemill-backup-") as name:
        folder = Path(name)
        before = await _listed(target, folder)
        known = {ref.key: ref for ref in before.objects if ref.key.startswith(_BULK)} if before else {}
        fresh = [key for key in keys if key not in known]
        say(f"copying {len(fresh)} objects, {len(keys) - len(fresh)} are there already")
        refs = [known[key] for key in keys if key in known]
        for key in fresh:
            copy = folder / "object"
            refs.append(await store.save(key, copy))
            await target.put(f"objects/{key}", copy)
        backup = Backup(taken_at=datetime.now(UTC), objects=tuple(refs))
        listing = folder / LIST
        listing.write_bytes(backup.to_json())
        await target.put(LIST, listing)
    return backup


async def put_back(store: Store, source: Place, say: Progress) -> int:
    """Copy the objects that the store lacks back, verified, those that name others last; returns how many.

    Raises TidemillError when there is no backup, ChecksumMismatch when it is damaged.
    """
    with TemporaryDirectory(prefix="tidemill-restore-") as name:
        folder = Path(name)
        backup = await _listed(source, folder)
        if backup is None:
            raise TidemillError(f"there is no {LIST}: this is not a backup, or it was never finished")
        say(f"backup of {backup.taken_at:%Y-%m-%d %H:%M:%S} with {len(backup.objects)} objects")
        copied = 0
        for ref in sorted(backup.objects, key=lambda r: _is_head(r.key)):
            if await store.stat(ref.key) is not None:
                continue
            copy = folder / "object"
            await source.get(f"objects/{ref.key}", copy)
            if file_reference(ref.key, copy) != ref:
                raise ChecksumMismatch(f"{ref.key}: its copy in the backup is not what was copied")
            await store.put_file(ref.key, copy)
            copied += 1
    return copied


async def _listed(place: Place, folder: Path) -> Backup | None:
    file = folder / LIST
    try:
        await place.get(LIST, file)
    except ObjectMissing:
        return None
    return Backup.from_json(file.read_bytes())
