"""gzip, unpacked with bounds: a small file may claim to hold a very large one."""

import gzip
import zlib
from pathlib import Path

from tidemill_ingestion.domain.job import Limits, Refused

_MAGIC = b"\x1f\x8b"
_CHUNK = 1024 * 1024
_RATIO_FROM = 64 * _CHUNK
"""Small files of repeated lines pack extremely well; the ratio says something only beyond this size."""


def unpack(path: Path, target: Path, *, gzip_expected: bool, limits: Limits) -> Path:
    """``path`` itself when it is not packed, else ``target`` with the unpacked bytes.

    The content decides, not the name. Raises Refused: empty_file, bad_gzip, truncated_gzip, too_large.
    """
    size = path.stat().st_size
    if not size:
        raise Refused("empty_file", "The file has no bytes.")
    with path.open("rb") as file:
        packed = file.read(2) == _MAGIC
    if not packed:
        if gzip_expected:
            raise Refused("bad_gzip", "The name ends in .gz, but the content is not gzip.")
        return path
    written = 0
    try:
        with gzip.open(path, "rb") as source, target.open("wb") as out:
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                _check(written, size, limits)
                out.write(chunk)
    except EOFError:
        raise Refused(
            "truncated_gzip", f"The gzip stream ends in the middle, after {written} unpacked bytes: upload it again."
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Refused("bad_gzip", f"The gzip stream is damaged after {written} unpacked bytes: {error}.") from None
    if not written:
        raise Refused("empty_file", "The gzip stream unpacks to no bytes.")
    return target


def _check(written: int, packed: int, limits: Limits) -> None:
    if written > limits.unpacked_bytes:
        raise Refused("too_large", f"The file unpacks to more than {limits.unpacked_bytes} bytes: split it.")
    if written > _RATIO_FROM and written > packed * limits.unpacked_ratio:
        raise Refused("too_large", f"The file unpacks to more than {limits.unpacked_ratio:g} times its size: split it.")
