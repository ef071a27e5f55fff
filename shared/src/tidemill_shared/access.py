"""Who may ask what over HTTP: API keys with scopes, of which a service holds the digests and never the keys."""

import hashlib
import hmac
import ipaddress
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tidemill_contracts.names import Digest, Name
from tidemill_shared.errors import ConfigurationError
from tidemill_shared.settings import HttpSettings

Scope = Literal["publish", "predict", "operate"]
"""Send data and labels; ask for predictions; change what runs (and read what is confidential)."""

SCOPES: tuple[Scope, ...] = get_args(Scope)


class ApiKey(BaseModel):
    """One key as a service knows it. A key has 256 random bits, so that a plain digest of it gives nothing away."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    sha256: Digest
    scopes: frozenset[Scope]


@dataclass(frozen=True)
class Keys:
    """The keys a service accepts."""

    keys: tuple[ApiKey, ...]

    @classmethod
    def read(cls, file: Path) -> "Keys":
        """From a JSON list of name, digest and scopes. Raises ConfigurationError."""
        try:
            keys = TypeAdapter(tuple[ApiKey, ...]).validate_json(file.read_bytes())
        except OSError as error:
            raise ConfigurationError(f"TIDEMILL_HTTP__KEYS_FILE: cannot read {file}: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(f"TIDEMILL_HTTP__KEYS_FILE: {file}: {where}: {first['msg']}") from None
        if not keys:
            raise ConfigurationError(f"TIDEMILL_HTTP__KEYS_FILE: {file} holds no key")
        return cls(keys)

    def find(self, presented: str) -> ApiKey | None:
        """The key that was presented. The time it takes does not depend on which one it is, or how much of it."""
        digest = hashlib.sha256(presented.encode(errors="surrogateescape")).hexdigest()
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found


def new_key() -> str:
    """A key to give to a client: 256 random bits, with a prefix that scanners for leaked secrets can look for."""
    return "tidemill_" + secrets.token_urlsafe(32)


def describe(keys: Iterable[tuple[str, str, Iterable[Scope]]]) -> str:
    """The file for services out of (name, key, scopes)."""
    rows = [
        {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": sorted(scopes)}
        for name, key, scopes in keys
    ]
    return json.dumps(rows, indent=1) + "\n"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def keys_of(settings: HttpSettings) -> Keys | None:
    """The keys a service asks for; None when it listens on loopback and was given none. Raises ConfigurationError."""
    if settings.keys_file is not None:
        return Keys.read(settings.keys_file)
    if not is_loopback(settings.host):
        raise ConfigurationError(
            f"TIDEMILL_HTTP__HOST={settings.host} can be reached from other machines, and no API key is asked for: "
            "set TIDEMILL_HTTP__KEYS_FILE (`tidemill up` makes one), or listen on 127.0.0.1"
        )
    return None
