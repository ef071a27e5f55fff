"""Object storage on plain S3: put, get, head, list, delete. Everything read by reference is verified first."""

import asyncio
import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.document import Document
from tidemill_shared import history, skew
from tidemill_shared.errors import ChecksumMismatch, ObjectMissing, Poison, StoreUnavailable
from tidemill_shared.settings import StoreSettings

T = TypeVar("T")
DocumentT = TypeVar("DocumentT", bound=Document)
_CHUNK = 1024 * 1024
_LARGE = 32 * _CHUNK
_ASSEMBLED_PER_SECOND = 4 * 1024**2
"""Bytes of a large file that even a busy store copies in a second."""
_READS = 3
"""Of an object whose bytes are not the ones referred to, before they count as wrong for good."""
_DOCUMENT_BYTES = 64 * 1024**2
"""Of an object whose size nobody stated, at most."""
_MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchObject"}


def reference(key: str, data: bytes) -> ArtifactRef:
    """The reference to ``data`` under ``key``."""
    return ArtifactRef(key=key, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def file_reference(key: str, path: Path) -> ArtifactRef:
    """The reference to a file's content under ``key``; reads it once, in bounded memory."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ArtifactRef(key=key, sha256=digest, size=path.stat().st_size)


class Store:
    """The bucket. Methods are coroutines; the client's blocking calls run in threads."""

    def __init__(self, settings: StoreSettings) -> None:
        self.bucket = settings.bucket
        self._settings = settings
        self._pool = self._pool_of(settings.timeout_seconds)
        self._client = self._client_on(self._pool)
        self._cache: Path | None = settings.cache_directory

    def _pool_of(self, read_seconds: float) -> urllib3.PoolManager:
        # The client's default is five minutes times five attempts; a service has no such patience.
        settings = self._settings
        return urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=min(3.0, settings.timeout_seconds), read=read_seconds),
            maxsize=16,
            retries=urllib3.Retry(
                total=settings.retries, backoff_factor=0.1, status_forcelist=[500, 502, 503, 504], redirect=0
            ),
        )

    def _client_on(self, pool: urllib3.PoolManager) -> Minio:
        settings = self._settings
        return Minio(
            settings.endpoint,
            access_key=settings.key(),
            secret_key=settings.secret(),
            secure=settings.secure,
            region=settings.region,
            http_client=pool,
        )

    async def _call(self, what: str, call: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(call)
        except S3Error as error:
            if error.code in _MISSING:
                raise ObjectMissing(f"{what}: no such object") from None
            if await self._clock_was_wrong():
                return await self._call(what, call)
            raise StoreUnavailable(f"{what}: {error.code}") from error
        except InvalidResponseError as error:
            # rclone answers a GET of a missing key with a plain-text 404, which the client cannot read.
            if "404" in str(error):
                raise ObjectMissing(f"{what}: no such object") from None
            if await self._clock_was_wrong():
                return await self._call(what, call)
            raise StoreUnavailable(f"{what}: {type(error).__name__}") from error
        except (MinioException, urllib3.exceptions.HTTPError, ParseError, OSError) as error:
            raise StoreUnavailable(f"{what}: {type(error).__name__}: {error}") from error

    async def _clock_was_wrong(self) -> bool:
        """Whether a refusal may be due to the time in its signature; then the server's clock is gone by."""
        url = f"{'https' if self._settings.secure else 'http'}://{self._settings.endpoint}/"
        try:
            answer = await asyncio.to_thread(self._pool.request, "HEAD", url, retries=False)
        except (urllib3.exceptions.HTTPError, OSError):
            return False
        return skew.adopt(answer.headers.get("Date"))

    async def start(self) -> None:
        """Make the bucket when it is missing. Raises StoreUnavailable."""

        def ensure() -> None:
            if not self._client.bucket_exists(self.bucket):
                try:
                    self._client.make_bucket(self.bucket)
                except S3Error as error:
                    # Another service may have been quicker.
                    if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                        raise

        await self._call(f"bucket {self.bucket}", ensure)

    async def ping(self) -> None:
        """Raises StoreUnavailable when the store does not answer or the bucket is gone."""
        if not await self._call(f"bucket {self.bucket}", lambda: self._client.bucket_exists(self.bucket)):
            raise StoreUnavailable(f"bucket {self.bucket} does not exist")

    def close(self) -> None:
        """Drop the connections."""
        self._pool.clear()

    async def put(self, key: str, data: bytes) -> ArtifactRef:
        """Write bytes; objects appear whole or not at all."""
        await self._call(f"put {key}", lambda: self._client.put_object(self.bucket, key, io.BytesIO(data), len(data)))
        history.record_put(key)
        return reference(key, data)

    async def put_file(self, key: str, path: Path) -> ArtifactRef:
        """Write a file's content."""
        ref = await asyncio.to_thread(file_reference, key, path)
        await self._call(f"put {key}", lambda: self._upload(key, path, ref.size))
        history.record_put(key)
        return ref

    def _upload(self, key: str, path: Path, size: int) -> None:
        if size < _LARGE:
            self._client.fput_object(self.bucket, key, str(path))
            return
        # A store answers once it has put the parts together. Who asks again meanwhile is told that there is no such
        # upload any more.
        pool = self._pool_of(self._settings.timeout_seconds + size / _ASSEMBLED_PER_SECOND)
        try:
            self._client_on(pool).fput_object(self.bucket, key, str(path))
        finally:
            pool.clear()

    async def put_document(self, key: str, document: Document) -> ArtifactRef:
        """Write a document's canonical JSON."""
        return await self.put(key, document.to_json())

    async def read(self, key: str) -> bytes | None:
        """An object by key: for logs and inboxes whose digest nobody knows. None when missing.

        Bytes that do not fit the store's own checksum are read again. Raises Poison("too_large"), StoreUnavailable.
        """
        before: set[bytes] = set()
        for _ in range(_READS):
            try:
                data, tag = await self._call(f"get {key}", lambda: self._tagged(key, _DOCUMENT_BYTES))
            except ObjectMissing:
                return None
            if len(data) > _DOCUMENT_BYTES:
                raise Poison("too_large", f"{key} has more than {_DOCUMENT_BYTES} bytes")
            # Not every store's tag is the MD5 of the bytes; then the same bytes twice are the ones that lie there.
            if data in before or tag == hashlib.md5(data, usedforsecurity=False).hexdigest():
                return data
            before.add(data)
        raise StoreUnavailable(f"get {key}: read {_READS} times, its bytes were never the same")

    def _read(self, key: str, most: int) -> bytes:
        """The object's first ``most`` bytes and one more, if there are any: what somebody put there may be endless."""
        return self._tagged(key, most)[0]

    def _tagged(self, key: str, most: int) -> tuple[bytes, str]:
        """The same, and the object's entity tag."""
        response: Any = self._client.get_object(self.bucket, key)
        try:
            data = bytearray()
            while len(data) <= most and (chunk := response.read(min(_CHUNK, most + 1 - len(data)))):
                data += chunk
            return bytes(data), str(response.headers.get("ETag", "")).strip('"')
        finally:
            response.close()
            response.release_conn()

    async def read_document(self, key: str, document: type[DocumentT]) -> DocumentT | None:
        """A document by key. None when missing."""
        data = await self.read(key)
        return None if data is None else document.from_json(data)

    async def get(self, ref: ArtifactRef) -> bytes:
        """An object's bytes. Raises ObjectMissing, or ChecksumMismatch when they are not the ones referred to."""
        return await self._right(lambda: self._get(ref))

    async def _right(self, read: Callable[[], Awaitable[T]]) -> T:
        """What ``read`` returns; read again when the bytes were wrong, since they may have been spoilt on their way."""
        for _ in range(_READS - 1):
            with contextlib.suppress(ChecksumMismatch):
                return await read()
        return await read()

    async def _get(self, ref: ArtifactRef) -> bytes:
        data = await self._call(f"get {ref.key}", lambda: self._read(ref.key, ref.size))
        if len(data) != ref.size or hashlib.sha256(data).hexdigest() != ref.sha256:
            raise ChecksumMismatch(f"{ref.key}: its bytes are not the ones its reference names")
        return data

    async def document(self, ref: ArtifactRef, document: type[DocumentT]) -> DocumentT:
        """A document, parsed after its digest was verified."""
        return document.from_json(await self.get(ref))

    async def get_file(self, ref: ArtifactRef, path: Path) -> Path:
        """Copy an object to ``path`` in bounded memory; the file appears only when its digest is right."""
        await self._right(lambda: self._call(f"get {ref.key}", lambda: self._download(ref, path)))
        return path

    async def save(self, key: str, path: Path) -> ArtifactRef:
        """Copy an object whose digest nobody knows yet to ``path``. Raises ObjectMissing, StoreUnavailable."""
        await self._call(f"get {key}", lambda: self._client.fget_object(self.bucket, key, str(path)))
        return await asyncio.to_thread(file_reference, key, path)

    def _download(self, ref: ArtifactRef, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        response: Any = self._client.get_object(self.bucket, ref.key)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                while chunk := response.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    if size > ref.size:
                        break
                    file.write(chunk)
            if size != ref.size or digest.hexdigest() != ref.sha256:
                raise ChecksumMismatch(f"{ref.key}: its bytes are not the ones its reference names")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
            response.close()
            response.release_conn()

    async def cached(self, ref: ArtifactRef) -> Path:
        """A verified local copy, named by its digest; kept until the cache is full. Read it, do not change it."""
        if self._cache is None:
            self._cache = Path(tempfile.mkdtemp(prefix="tidemill-cache-"))
        path = self._cache / ref.sha256[:2] / ref.sha256
        with contextlib.suppress(FileNotFoundError):  # not there, or evicted at this moment
            if path.stat().st_size == ref.size:
                os.utime(path)
                return path
        await asyncio.to_thread(self._evict, ref.size)
        return await self.get_file(ref, path)

    def _evict(self, incoming: int) -> None:
        assert self._cache is not None  # noqa: S101 - only called by cached()
        found: list[tuple[float, int, Path]] = []
        for path in self._cache.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # what is being downloaded moves to its place meanwhile
                told = path.stat()
                found.append((told.st_mtime, told.st_size, path))
        total = sum(size for _, size, _ in found) + incoming
        for _, size, path in sorted(found):
            if total <= self._settings.cache_bytes:
                return
            total -= size
            path.unlink(missing_ok=True)

    async def lasting(self, key: str, proven: Callable[[bytes], bool]) -> bytes | None:
        """An object that never changes, since its key tells what its bytes are: a proven local copy is as good.

        None when missing. Raises as ``read`` does; what is not proven is returned too, and read anew each time.
        """
        name = hashlib.sha256(key.encode()).hexdigest()
        path = self._cache / name[:2] / name if self._cache else None
        if path and path.exists():
            with contextlib.suppress(OSError):
                data = await asyncio.to_thread(path.read_bytes)
                if proven(data):
                    return data
        found = await self.read(key)
        if path and found is not None and proven(found):
            with contextlib.suppress(OSError):  # a full disk, say: then there is no copy
                await asyncio.to_thread(_write, path, found)
        return found

    async def stat(self, key: str) -> int | None:
        """An object's size in bytes, or None when it is missing."""
        try:
            found = await self._call(f"head {key}", lambda: self._client.stat_object(self.bucket, key))
        except ObjectMissing:
            return None
        return int(found.size or 0)

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return await self.stat(key) is not None

    async def list(self, prefix: str) -> list[str]:
        """Keys that start with ``prefix``, sorted."""

        def keys() -> list[str]:
            found = self._client.list_objects(self.bucket, prefix=prefix, recursive=True)
            # rclone leaves these behind when it is killed in the middle of a put.
            return sorted(o.object_name for o in found if o.object_name and ".rclone_temp_put_" not in o.object_name)

        return await self._call(f"list {prefix}", keys)

    async def delete(self, key: str) -> None:
        """Remove an object; missing ones are fine."""
        await self._call(f"delete {key}", lambda: self._client.remove_object(self.bucket, key))


def _write(path: Path, data: bytes) -> None:
    """The file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
