"""The base of every payload and document: frozen, tolerant of fields it does not know yet."""

import hashlib
import json
import os
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

DESCRIBED = "CONTRACTS_DESCRIBED" in os.environ
"""Whether fields carry their docstrings as descriptions: whoever writes schemas asks for it. Reading them from the
sources, and building validators for what a service never parses, would cost each start a third of a second."""


class Document(BaseModel):
    """A value that crosses a border: immutable, unknown fields ignored on read (additive evolution)."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        protected_namespaces=(),
        use_attribute_docstrings=DESCRIBED,
        defer_build=True,
        allow_inf_nan=False,  # JSON has none: they would arrive as null
    )

    def to_json(self) -> bytes:
        """Canonical bytes: sorted keys, no spaces. Equal documents give equal bytes, so their digest is an id."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Parse bytes whose digest has been verified. Raises pydantic.ValidationError on anything else."""
        return cls.model_validate_json(data)


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def content_version(*parts: bytes | str) -> str:
    """The first 12 hex of the SHA-256 over the parts, each preceded by its length so that no two lists collide."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()[:12]
