"""From a new-data event to a verified local file, or to the reason why there is none."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.dataset import ArrivedData, Format
from tidemill_ingestion.domain.job import Refused
from tidemill_shared.errors import ChecksumMismatch, ObjectMissing
from tidemill_shared.store import Store

_FORMATS: dict[str, Format] = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass(frozen=True)
class Fetched:
    """A file whose size and digest are the declared ones."""

    path: Path
    ref: ArtifactRef
    format: Format
    gzipped: bool
    """The name promises gzip; whether it is, the content decides."""


async def fetch(store: Store, data: ArrivedData, path: Path, *, max_bytes: int) -> Fetched:
    """Own bucket, key, declared size, format, stored size, digest: in this order, before a byte is parsed.

    Raises Refused: foreign_bucket, bad_uri, too_large, unknown_format, missing_object, size_mismatch,
    checksum_mismatch.
    """
    ref = _reference(data, store.bucket)
    if data.size > max_bytes:
        message = f"{data.size} bytes are declared, at most {max_bytes} are taken: split the file."
        raise Refused("too_large", message, count=data.size)
    format_, gzipped = _format(data)
    size = await store.stat(ref.key)
    if size is None:
        raise Refused("missing_object", f"There is no object {ref.key}: upload the file before its event is published.")
    if size != data.size:
        message = f"{data.size} bytes are declared, the object has {size}: was the upload cut off?"
        raise Refused("size_mismatch", message, count=size)
    try:
        return Fetched(await store.get_file(ref, path), ref, format_, gzipped)
    except ChecksumMismatch:
        message = "The object's SHA-256 is not the declared one: was it changed after its event was written?"
        raise Refused("checksum_mismatch", message) from None
    except ObjectMissing:
        raise Refused("missing_object", f"The object {ref.key} has vanished: upload the file again.") from None


def _reference(data: ArrivedData, own: str) -> ArtifactRef:
    bucket, _, key = data.uri.removeprefix("s3://").partition("/")
    if bucket != own:
        raise Refused("foreign_bucket", f"Only objects of s3://{own} are read: copy the file there.")
    if any(step in ("", ".", "..") for step in key.split("/")):
        raise Refused("bad_uri", "The key has an empty, '.' or '..' step.")
    try:
        return ArtifactRef(key=key, sha256=data.sha256, size=data.size)
    except ValueError:
        message = "The key must start with a letter or digit and hold only those and ._=:/-, at most 1024 of them."
        raise Refused("bad_uri", message) from None


def _format(data: ArrivedData) -> tuple[Format, bool]:
    suffixes = [suffix.lower() for suffix in PurePosixPath(data.uri).suffixes]
    gzipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[:-1][-1:] if gzipped else suffixes[-1:])
    format_ = data.format or _FORMATS.get(suffix)
    if format_ is None:
        message = (
            f"The name does not tell the format: {', '.join(_FORMATS)} (or .gz after it), or `format`, is expected."
        )
        raise Refused("unknown_format", message)
    return format_, gzipped
