"""Secrets made once, as files only their users can read: ``python -m tidemill_shared.credentials DIRECTORY``."""

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from tidemill_shared import access
from tidemill_shared.signing import generate_keys

_CLIENTS: dict[str, tuple[access.Scope, ...]] = {
    "producer": ("publish",),
    "reader": ("predict",),
    "operator": access.SCOPES,
}
"""The API keys that are made: a file each for who calls, one of digests for the services."""


@dataclass(frozen=True)
class Credentials:
    """Where the secrets of one installation lie. Each folder is what one kind of process needs, and no more."""

    directory: Path

    @property
    def redis_password(self) -> Path:
        """The password of Redis, nothing else in the file."""
        return self.directory / "redis" / "password"

    @property
    def redis_configuration(self) -> Path:
        """The same for redis-server itself, as a line of its configuration."""
        return self.directory / "redis-server" / "auth.conf"

    @property
    def store_access_key(self) -> Path:
        """Access key id of the object store."""
        return self.directory / "store" / "access-key"

    @property
    def store_secret_key(self) -> Path:
        """Secret key of the object store."""
        return self.directory / "store" / "secret-key"

    @property
    def private_key(self) -> Path:
        """Signs packages; packaging alone reads it."""
        return self.directory / "signing" / "private.pem"

    @property
    def public_key(self) -> Path:
        """Verifies packages."""
        return self.directory / "verification" / "public.pem"

    @property
    def api_keys(self) -> Path:
        """Digests and scopes of the API keys, for services."""
        return self.directory / "http" / "keys.json"

    def api_key(self, name: str) -> Path:
        """One API key, for who calls: ``producer``, ``reader`` or ``operator``."""
        return self.directory / "api" / name


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def create(directory: Path) -> Credentials:
    """Make what is missing; what is there stays as it is."""
    made = Credentials(directory)
    if not made.redis_password.exists():
        _write(made.redis_password, secrets.token_hex(32))
    if not made.redis_configuration.exists():
        _write(made.redis_configuration, f'requirepass "{made.redis_password.read_text()}"\n')
    if not made.store_access_key.exists():
        _write(made.store_access_key, "tidemill-" + secrets.token_hex(4))
    if not made.store_secret_key.exists():
        _write(made.store_secret_key, secrets.token_hex(32))
    if not (made.private_key.exists() and made.public_key.exists()):
        private, public = generate_keys()
        _write(made.private_key, private)
        _write(made.public_key, public)
    _make_api_keys(made)
    return made


def _make_api_keys(made: Credentials) -> None:
    for name in _CLIENTS:
        if not made.api_key(name).exists():
            _write(made.api_key(name), access.new_key())
    if not made.api_keys.exists():
        keys = [(name, made.api_key(name).read_text(), scopes) for name, scopes in _CLIENTS.items()]
        _write(made.api_keys, access.describe(keys))


if __name__ == "__main__":
    create(Path(sys.argv[1]))
