"""A pipeline's dataset versions, in order. Callers hold the pipeline's lock."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from tidemill_contracts.artifacts import ArtifactRef, dataset_log_prefix
from tidemill_contracts.dataset import DatasetManifest, PreparedDataset, Profile
from tidemill_ingestion.domain.job import Earlier, EarlierPart, Feature
from tidemill_ingestion.domain.recent import newest
from tidemill_shared.append_log import AppendLog
from tidemill_shared.store import Store

_DOWNLOADS = 8


@dataclass(frozen=True)
class Head:
    """The newest dataset version."""

    prepared: PreparedDataset
    manifest: DatasetManifest


class History:
    """Reads and extends the order of versions, and keeps the newest one's index of row identities at hand."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._logs: dict[str, AppendLog[PreparedDataset]] = {}
        self._indexes: dict[str, tuple[str, Path]] = {}
        self._folder = Path(mkdtemp(prefix="tidemill-index-"))

    async def head(self, pipeline: str) -> Head | None:
        """The newest version, or None before the first."""
        last = await self._log(pipeline).last()
        if last is None:
            return None
        return Head(last[1], await self._store.document(last[1].manifest, DatasetManifest))

    async def append(self, prepared: PreparedDataset, index: Path) -> None:
        """Make a version the head. ``index`` is moved away: the next preparation starts from it."""
        await self._log(prepared.pipeline).append(prepared.sequence, prepared)
        kept = self._folder / f"{prepared.pipeline}.parquet"
        await asyncio.to_thread(shutil.move, index, kept)
        self._indexes[prepared.pipeline] = prepared.version, kept

    async def earlier(
        self, manifest: DatasetManifest, features: tuple[Feature, ...], folder: Path, *, profile_rows: int, slides: bool
    ) -> Earlier:
        """What the next preparation must know, with copies in ``folder`` of just the parts it will read."""
        version, index = self._indexes.get(manifest.pipeline, (None, None))
        if version != manifest.version:  # this process is new, or another replica went on
            index = None
        bare = [EarlierPart(p.split, p.rows, p.first_ordinal, p.last_ordinal) for p in manifest.parts]
        # Every part for its identities, or because one of them lies across a sliding window's new border.
        needed = range(len(bare)) if index is None or slides else newest(bare, profile_rows)
        paths = dict(zip(needed, await self._copies([manifest.parts[n].file for n in needed], folder), strict=True))
        return Earlier(
            features=features,
            classes=manifest.classes,
            parts=tuple(
                EarlierPart(part.split, part.rows, part.first_ordinal, part.last_ordinal, paths.get(number))
                for number, part in enumerate(bare)
            ),
            from_ordinal=manifest.from_ordinal,
            next_ordinal=manifest.next_ordinal,
            index=index,
            edges=await self._edges(manifest),
        )

    async def forget(self) -> None:
        """Remove what only this process needed."""
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _copies(self, refs: list[ArtifactRef], folder: Path) -> list[Path]:
        gate = asyncio.Semaphore(_DOWNLOADS)

        async def copy(ref: ArtifactRef) -> Path:
            async with gate:
                cached, path = await self._store.cached(ref), folder / f"{ref.sha256}.parquet"
                # A name of our own: the cache may drop its copy at any time.
                await asyncio.to_thread(_link, cached, path)
                return path

        return await asyncio.gather(*(copy(ref) for ref in refs))

    async def _edges(self, manifest: DatasetManifest) -> dict[str, tuple[float, ...]]:
        if manifest.profile is None:
            return {}
        profile = await self._store.document(manifest.profile, Profile)
        return {c.name: c.histogram.edges for c in (*profile.columns, profile.target) if c.histogram}

    def _log(self, pipeline: str) -> AppendLog[PreparedDataset]:
        return self._logs.setdefault(pipeline, AppendLog(self._store, dataset_log_prefix(pipeline), PreparedDataset))


def _link(cached: Path, path: Path) -> None:
    try:
        path.hardlink_to(cached)
    except FileExistsError:  # two parts with the same content
        return
    except OSError:  # another file system
        shutil.copyfile(cached, path)
