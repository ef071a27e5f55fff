"""Where a backup lies: a folder, or a bucket of the same object store."""

import os
import shutil
from pathlib import Path
from typing import Protocol

from tidemill_shared.errors import ConfigurationError, ObjectMissing
from tidemill_shared.settings import StoreSettings
from tidemill_shared.store import Store


class Place(Protocol):
    """Named files, each whole or not there."""

    async def put(self, name: str, path: Path) -> None:
        """Copy a file there."""

    async def get(self, name: str, path: Path) -> None:
        """Copy a file here. Raises ObjectMissing."""


class Folder:
    """A directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def put(self, name: str, path: Path) -> None:
        """Copy a file there; it appears when it is whole."""
        target = self._directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".part-{os.getpid()}-{target.name}")
        shutil.copyfile(path, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)

    async def get(self, name: str, path: Path) -> None:
        """Copy a file here. Raises ObjectMissing."""
        try:
            shutil.copyfile(self._directory / name, path)
        except FileNotFoundError:
            raise ObjectMissing(f"{self._directory / name}: no such file") from None


class Bucket:
    """A bucket, below a prefix."""

    def __init__(self, settings: StoreSettings, bucket: str, prefix: str) -> None:
        self._store = Store(settings.model_copy(update={"bucket": bucket}))
        self._prefix = f"{prefix}/" if prefix else ""

    async def put(self, name: str, path: Path) -> None:
        """Copy a file there."""
        await self._store.start()
        await self._store.put_file(self._prefix + name, path)

    async def get(self, name: str, path: Path) -> None:
        """Copy a file here. Raises ObjectMissing."""
        await self._store.save(self._prefix + name, path)


def place(name: str, settings: StoreSettings) -> Place:
    """``s3://bucket/prefix``, else a directory. Raises ConfigurationError."""
    if not name.startswith("s3://"):
        return Folder(Path(name))
    bucket, _, prefix = name.removeprefix("s3://").strip("/").partition("/")
    if not bucket or bucket == settings.bucket:
        raise ConfigurationError(f"{name}: a backup lies in a bucket of its own; {settings.bucket!r} is the live one")
    return Bucket(settings, bucket, prefix)
