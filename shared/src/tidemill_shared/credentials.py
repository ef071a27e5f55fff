"""Secrets made once, as files only their users can read, and made anew when they may have leaked.

``python -m tidemill_shared.credentials DIRECTORY [--rotate redis http store signing] [--forget]``
"""

import argparse
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tidemill_contracts.streams import DEFAULT_NAMESPACE
from tidemill_shared import access, permissions
from tidemill_shared.signing import generate_keys

Part = Literal["redis", "http", "store", "signing"]
"""Passwords of Redis, API keys, the object store's key, and what signs packages, promotions and operators' requests."""

PARTS: tuple[Part, ...] = get_args(Part)
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

    def redis_password(self, user: str = "operator") -> Path:
        """The password of a user of Redis (see permissions.USERS), nothing else in the file."""
        return self.directory / f"redis-{user}" / "password"

    @property
    def redis_access_list(self) -> Path:
        """For redis-server: its users, the digests of their passwords, what each may do."""
        return self.directory / "redis-server" / "users.acl"

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
    def promotion_private_key(self) -> Path:
        """Signs promotions; validation alone reads it."""
        return self.directory / "promotion" / "private.pem"

    @property
    def promotion_public_key(self) -> Path:
        """Verifies promotions."""
        return self.directory / "verification" / "promotion.pem"

    @property
    def operator_private_key(self) -> Path:
        """Signs approvals and rollbacks; the console alone reads it."""
        return self.directory / "operator" / "private.pem"

    @property
    def operator_public_key(self) -> Path:
        """Verifies approvals and rollbacks."""
        return self.directory / "verification" / "operator.pem"

    @property
    def key_pairs(self) -> tuple[tuple[Path, Path], ...]:
        """Private and public files of everything that signs."""
        return (
            (self.private_key, self.public_key),
            (self.promotion_private_key, self.promotion_public_key),
            (self.operator_private_key, self.operator_public_key),
        )

    @property
    def api_keys(self) -> Path:
        """Digests and scopes of the API keys, for services."""
        return self.directory / "http" / "keys.json"

    def api_key(self, name: str) -> Path:
        """One API key, for who calls: ``producer``, ``reader`` or ``operator``."""
        return self.directory / "api" / name

    def environment(self, service: str | None = None) -> dict[str, str]:
        """The settings that name the secrets of a service by file, or those of the operator: no more than it needs."""
        named = {
            "REDIS__PASSWORD_FILE": self.redis_password(service or "operator"),
            "STORE__ACCESS_KEY_FILE": self.store_access_key,
            "STORE__SECRET_KEY_FILE": self.store_secret_key,
            **self._keys(service),
        }
        if service:
            named["HTTP__KEYS_FILE"] = self.api_keys
        return {"TIDEMILL_REDIS__USERNAME": service or "operator"} | {
            f"TIDEMILL_{name}": str(path) for name, path in named.items()
        }

    def _keys(self, service: str | None) -> dict[str, Path]:
        keys = {
            None: {"OPERATOR_PRIVATE_FILE": self.operator_private_key},
            "packaging": {"PRIVATE_FILE": self.private_key},
            "validation": {
                "PUBLIC_FILE": self.public_key,
                "PROMOTION_PRIVATE_FILE": self.promotion_private_key,
                "PROMOTION_PUBLIC_FILE": self.promotion_public_key,
                "OPERATOR_PUBLIC_FILE": self.operator_public_key,
            },
            "serving": {"PUBLIC_FILE": self.public_key, "PROMOTION_PUBLIC_FILE": self.promotion_public_key},
        }
        return {f"KEYS__{name}": path for name, path in keys.get(service, {}).items()}


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def create(directory: Path, namespace: str = DEFAULT_NAMESPACE) -> Credentials:
    """Make what is missing; secrets that are there stay as they are."""
    made = Credentials(directory)
    for user in permissions.USERS:
        if not made.redis_password(user).exists():
            _write(made.redis_password(user), secrets.token_hex(32))
    passwords = {user: made.redis_password(user).read_text().strip() for user in permissions.USERS}
    # Written anew each time: what a service may do changes with the version that is started.
    _write(made.redis_access_list, permissions.access_list(namespace, passwords))
    if not made.store_access_key.exists():
        _write(made.store_access_key, "tidemill-" + secrets.token_hex(4))
    if not made.store_secret_key.exists():
        _write(made.store_secret_key, secrets.token_hex(32))
    for private_file, public_file in made.key_pairs:
        if not (private_file.exists() and public_file.exists()):
            private, public = generate_keys()
            _write(private_file, private)
            _write(public_file, public)
    _make_api_keys(made)
    return made


def _make_api_keys(made: Credentials) -> None:
    for name in _CLIENTS:
        if not made.api_key(name).exists():
            _write(made.api_key(name), access.new_key())
    if not made.api_keys.exists():
        keys = [(name, made.api_key(name).read_text(), scopes) for name, scopes in _CLIENTS.items()]
        _write(made.api_keys, access.describe(keys))


def rotate(
    directory: Path, parts: Iterable[Part], namespace: str = DEFAULT_NAMESPACE, *, forget: bool = False
) -> Credentials:
    """New secrets in the place of the old, which end when the servers and services have been started again.

    What the old signing keys signed stays believed, unless ``forget``: then models signed with them answer no more.
    """
    made = Credentials(directory)
    gone: dict[Part, list[Path]] = {
        "redis": [made.redis_password(user) for user in permissions.USERS],
        "http": [made.api_keys, *(made.api_key(name) for name in _CLIENTS)],
        "store": [made.store_access_key, made.store_secret_key],
        "signing": [],
    }
    for part in set(parts):
        for file in gone[part]:
            file.unlink(missing_ok=True)
        for private_file, public_file in made.key_pairs if part == "signing" else ():
            private, public = generate_keys()
            old = b"" if forget or not public_file.exists() else public_file.read_bytes()
            _write(public_file, public + old)
            _write(private_file, private)
    return create(directory, namespace)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tidemill_shared.credentials", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rotate", nargs="+", choices=PARTS, default=[], help="what to make anew")
    parser.add_argument("--forget", action="store_true", help="believe nothing that the old signing keys signed")
    asked = parser.parse_args(arguments)
    namespace = os.environ.get("TIDEMILL_NAMESPACE", DEFAULT_NAMESPACE)
    rotate(asked.directory, asked.rotate, namespace, forget=asked.forget)


if __name__ == "__main__":
    main()
