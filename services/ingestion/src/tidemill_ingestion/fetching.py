"""From a new-data event to a verified local file, or to the reason why there is none."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.dataset import ArrivedData, Format, Reason
from tidemill_ingestion.settings import IngestionGroup
from tidemill_shared.errors import ChecksumMismatch
from tidemill_shared.store import Store

_FORMATS: dict[str, Format] = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass(frozen=True)
class Fetched:
    """A file whose size and digest are the declared ones."""

    path: Path
    ref: ArtifactRef
    format: Format
    gzipped: bool


class Fetcher:
    """Checks before it fetches, and fetches before anything parses."""

    def __init__(self, store: Store, settings: IngestionGroup) -> None:
        self._store = store
        self._settings = settings

    async def fetch(self, data: ArrivedData, folder: Path) -> Fetched | Reason:
        """Own bucket, declared size, stored size, format, digest: in this order."""
        bucket, _, key = data.uri.removeprefix("s3://").partition("/")
        if bucket != self._store.bucket:
            return Reason(
                code="foreign_bucket",
                message=f"{data.uri}: only objects of s3://{self._store.bucket} are read; copy the file there",
            )
        if data.size > self._settings.max_bytes:
            return Reason(
                code="too_large",
                message=f"{data.size} bytes are declared, at most {self._settings.max_bytes} are taken: split the file",
                count=data.size,
            )
        try:
            ref = ArtifactRef(key=key, sha256=data.sha256, size=data.size)
        except ValueError:
            return Reason(code="bad_uri", message=f"{data.uri}: the key has characters that are not allowed")
        size = await self._store.stat(key)
        if size is None:
            return Reason(code="missing_object", message=f"{data.uri}: there is no such object")
        if size != data.size:
            message = f"{data.uri}: {data.size} bytes are declared, the object has {size}: was the upload cut off?"
            return Reason(code="size_mismatch", message=message, count=size)
        name = key.removesuffix(".gz")
        format_ = data.format or _FORMATS.get(Path(name).suffix)
        if format_ is None:
            return Reason(
                code="unknown_format", message=f"{key}: .csv, .jsonl, their .gz, or .parquet is expected"
            )
        try:
            path = await self._store.get_file(ref, folder / hashlib.sha256(key.encode()).hexdigest())
        except ChecksumMismatch:
            return Reason(code="checksum_mismatch", message=f"{data.uri}: its content is not what the digest says")
        return Fetched(path, ref, format_, key.endswith(".gz"))
