"""The model as bytes: skops, made reproducible, so that the same model is the same version."""

import io
import json
import zipfile
from pathlib import PurePosixPath
from typing import Any

import skops.io

_EPOCH = (1980, 1, 1, 0, 0, 0)


def to_bytes(model: Any) -> bytes:
    """A skops archive whose bytes depend on the model alone.

    skops names files and links by memory addresses and stamps entries with the clock: both are replaced, addresses by
    the order of their first appearance.
    """
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(model))) as raw:
        schema = json.loads(raw.read("schema.json"))
        files: dict[str, str] = {}
        _renumber(schema, {}, files)
        members = {new: raw.read(old) for old, new in files.items()}
    members["schema.json"] = json.dumps(schema, sort_keys=True, separators=(",", ":")).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, members[name])
    return out.getvalue()


def _renumber(node: Any, ids: dict[int, int], files: dict[str, str]) -> None:
    """Walks the schema in its own order, which is that of the model's attributes."""
    if isinstance(node, dict):
        if isinstance(node.get("__id__"), int):
            node["__id__"] = ids.setdefault(node["__id__"], len(ids) + 1)
        if isinstance(node.get("file"), str):
            name = node["file"]
            node["file"] = files.setdefault(name, f"{len(files) + 1}{PurePosixPath(name).suffix}")
        for value in node.values():
            _renumber(value, ids, files)
    elif isinstance(node, list):
        for value in node:
            _renumber(value, ids, files)
