"""Signatures: Ed25519 over an in-toto statement in a DSSE envelope.

Sources: in-toto Statement v1 and DSSE v1 (the pre-authentication encoding is ``PAE`` there).
"""

import base64
import binascii
import contextlib
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from tidemill_contracts.document import canonical_json
from tidemill_contracts.package import Attestation
from tidemill_shared.errors import ConfigurationError, Poison

_TYPE = "application/vnd.in-toto+json"
_PREDICATE = "urn:tidemill:package:v1"
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


def pae(payload: bytes, type_: str = _TYPE) -> bytes:
    """What is signed: the type is part of it, so that a signature over one kind of document is none over another."""
    return b"DSSEv1 %d %s %d %s" % (len(type_), type_.encode(), len(payload), payload)


def _key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def generate_keys() -> tuple[bytes, bytes]:
    """A new key pair as PEM: private (PKCS 8, unencrypted: keep the file at 0600), public."""
    private = Ed25519PrivateKey.generate()
    return (
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )


def private_key(file: Path | None, setting: str) -> Ed25519PrivateKey:
    """The key that signs. Raises ConfigurationError, which names the setting."""
    key = load_pem_private_key(_read(file, setting), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{setting}: {file}: an Ed25519 key is needed")
    return key


@dataclass(frozen=True)
class PublicKeys:
    """The keys whose signatures are believed: the present one, and after a rotation those before it."""

    keys: tuple[Ed25519PublicKey, ...]

    @classmethod
    def read(cls, file: Path | None, setting: str) -> "PublicKeys":
        """One or more PEM blocks of a file. Raises ConfigurationError, which names the setting."""
        keys = []
        for block in _PEM.findall(_read(file, setting)):
            key = load_pem_public_key(block)
            if not isinstance(key, Ed25519PublicKey):
                raise ConfigurationError(f"{setting}: {file}: an Ed25519 key is needed")
            keys.append(key)
        if not keys:
            raise ConfigurationError(f"{setting}: {file} holds no public key in PEM")
        return cls(tuple(keys))

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raises InvalidSignature unless one of the keys signed the message."""
        for key in self.keys:
            with contextlib.suppress(InvalidSignature):
                return key.verify(signature, message)
        raise InvalidSignature


def _read(file: Path | None, setting: str) -> bytes:
    if file is None:
        raise ConfigurationError(f"no key: set {setting} to a PEM file (`tidemill up` makes one)")
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting}: cannot read {file}: {error.strerror}") from None


class Signer:
    """Signs digests of objects with the private key."""

    def __init__(self, private_file: Path | None) -> None:
        self._key = private_key(private_file, "TIDEMILL_KEYS__PRIVATE_FILE")

    def attest(self, name: str, sha256: str) -> Attestation:
        """A signed statement that the object ``name`` has this digest. Deterministic (Ed25519 is)."""
        statement = canonical_json(
            {
                "_type": "https://in-toto.io/Statement/v1",
                "subject": [{"name": name, "digest": {"sha256": sha256}}],
                "predicateType": _PREDICATE,
                "predicate": {},
            }
        )
        signature = self._key.sign(pae(statement))
        return Attestation(
            payload=base64.b64encode(statement).decode(),
            signatures=({"keyid": _key_id(self._key.public_key()), "sig": base64.b64encode(signature).decode()},),
        )


class Verifier:
    """Checks statements with the public keys."""

    def __init__(self, public_file: Path | None) -> None:
        self._keys = PublicKeys.read(public_file, "TIDEMILL_KEYS__PUBLIC_FILE")

    def verify(self, attestation: Attestation, name: str, sha256: str) -> None:
        """Raises Poison("signature") unless our key signed that ``name`` has this digest."""
        try:
            payload = base64.b64decode(attestation.payload, validate=True)
            known = {_key_id(key) for key in self._keys.keys}
            signature = base64.b64decode(
                next(s["sig"] for s in attestation.signatures if s.get("keyid") in known), validate=True
            )
            self._keys.verify(signature, pae(payload))
        except (StopIteration, InvalidSignature, KeyError, binascii.Error):
            raise Poison("signature", f"{name}: not signed by the key this service trusts") from None
        statement = json.loads(payload)  # only parsed now that we know who wrote it
        subject = {"name": name, "digest": {"sha256": sha256}}
        if statement.get("predicateType") != _PREDICATE or subject not in statement.get("subject", []):
            raise Poison("signature", f"{name}: the signature is for another object")
