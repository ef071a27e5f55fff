"""Sealed documents: an Ed25519 signature beside the fields it covers, so that writing to a stream or a bucket is not
enough to promote a model, approve one or roll one back.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Self, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidemill_contracts.document import canonical_json
from tidemill_contracts.events import AnchorRequested, ModelApproved, RollbackRequested, TrialRequested
from tidemill_contracts.promotion import Anchor, Promotion
from tidemill_contracts.rollout import Trial
from tidemill_shared.errors import Poison
from tidemill_shared.settings import KeySettings
from tidemill_shared.signing import PublicKeys, pae, private_key

OperatorRequest = ModelApproved | RollbackRequested | AnchorRequested | TrialRequested
RequestT = TypeVar("RequestT", ModelApproved, RollbackRequested, AnchorRequested, TrialRequested)
Entry = Promotion | Trial | Anchor
EntryT = TypeVar("EntryT", Promotion, Trial, Anchor)
_KINDS: dict[type[Entry], str] = {
    Promotion: "application/vnd.tidemill.promotion+json",
    Trial: "application/vnd.tidemill.trial+json",
    Anchor: "application/vnd.tidemill.anchor+json",
}
"""A signature over an entry of one log is none over an entry of another."""
_PROMOTION_PUBLIC = "TIDEMILL_KEYS__PROMOTION_PUBLIC_FILE"
_REQUEST = "application/vnd.tidemill.operator-request+json"


def _message(type_: str, fields: Mapping[str, Any]) -> bytes:
    return pae(canonical_json({k: v for k, v in fields.items() if k != "signature"}), type_)


def _sign(key: Ed25519PrivateKey, message: bytes) -> str:
    return base64.b64encode(key.sign(message)).decode()


def _verify(keys: PublicKeys, signature: object, message: bytes, what: str) -> None:
    if not isinstance(signature, str):
        raise Poison("signature", f"{what} is not signed")
    try:
        keys.verify(base64.b64decode(signature, validate=True), message)
    except (InvalidSignature, binascii.Error, ValueError):
        raise Poison("signature", f"{what} is not signed by the key this service trusts") from None


class PromotionSeal:
    """Signs entries of the registry: promotions, trials and anchors. Validation alone has the key."""

    def __init__(self, key: Ed25519PrivateKey, before: PublicKeys | None = None) -> None:
        self._key = key
        self.check = PromotionCheck(PublicKeys((key.public_key(), *(before.keys if before else ()))))

    @classmethod
    def of(cls, settings: KeySettings) -> Self:
        """From its files; the public one, if named, adds the keys of before a rotation. Raises ConfigurationError."""
        file = settings.promotion_public_file
        before = PublicKeys.read(file, _PROMOTION_PUBLIC) if file else None
        return cls(private_key(settings.promotion_private_file, "TIDEMILL_KEYS__PROMOTION_PRIVATE_FILE"), before)

    def sealed(self, entry: EntryT) -> EntryT:
        """The same entry with its signature."""
        kind = next(kind for kind in _KINDS if isinstance(entry, kind))
        message = _message(_KINDS[kind], entry.model_dump(mode="json"))
        return entry.model_copy(update={"signature": _sign(self._key, message)})


class PromotionCheck:
    """Checks entries of the registry."""

    def __init__(self, keys: PublicKeys) -> None:
        self._keys = keys

    @classmethod
    def of(cls, settings: KeySettings) -> Self:
        """From its file. Raises ConfigurationError."""
        return cls(PublicKeys.read(settings.promotion_public_file, _PROMOTION_PUBLIC))

    def opened(self, data: bytes, pipeline: str, sequence: int) -> Promotion:
        """Promotion ``sequence`` of a pipeline. Raises Poison when it is not what validation wrote there."""
        return self._opened(Promotion, data, pipeline, sequence)

    def opened_trial(self, data: bytes, pipeline: str, sequence: int) -> Trial:
        """Entry ``sequence`` of a pipeline's log of rollouts. Raises Poison when validation did not write it there."""
        return self._opened(Trial, data, pipeline, sequence)

    def opened_anchor(self, data: bytes, pipeline: str, sequence: int) -> Anchor:
        """Entry ``sequence`` of a pipeline's anchors. Raises Poison when it is not what validation wrote there."""
        return self._opened(Anchor, data, pipeline, sequence)

    def _opened(self, kind: type[EntryT], data: bytes, pipeline: str, sequence: int) -> EntryT:
        """The fields as they came are what is checked: a later version may have added some."""
        name = kind.__name__.lower()
        what = f"{name} {sequence} of {pipeline}"
        try:
            fields = json.loads(data)
            message = _message(_KINDS[kind], fields)
        except (ValueError, AttributeError, RecursionError):
            raise Poison("manifest", f"{what} is no {name}") from None
        _verify(self._keys, fields.get("signature"), message, what)
        entry = kind.from_json(data)
        if (entry.pipeline, entry.sequence) != (pipeline, sequence):
            raise Poison("manifest", f"{what} was signed for another place in the registry")
        return entry


def _request(event: OperatorRequest) -> bytes:
    # The id is signed too: by it a handler knows what a request has led to when the same bytes come once more. What
    # must still be so when they come late (the champion, the entry of a log) is for the data to name.
    fields = {"id": event.id, "type": event.type, "subject": event.subject, "time": event.time.isoformat()}
    return _message(_REQUEST, fields | {"data": event.data.model_dump(mode="json", exclude={"signature"})})


class OperatorSeal:
    """Signs what an operator asks for."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def of(cls, settings: KeySettings) -> Self:
        """From its file. Raises ConfigurationError."""
        return cls(private_key(settings.operator_private_file, "TIDEMILL_KEYS__OPERATOR_PRIVATE_FILE"))

    def sealed(self, event: RequestT) -> RequestT:
        """The request with its signature."""
        data = event.data.model_copy(update={"signature": _sign(self._key, _request(event))})
        return event.model_copy(update={"data": data})


class OperatorCheck:
    """Checks what claims to come from an operator."""

    def __init__(self, keys: PublicKeys | None) -> None:
        self._keys = keys

    @classmethod
    def of(cls, settings: KeySettings) -> Self:
        """From its file; without one every request is let through. Raises ConfigurationError."""
        file = settings.operator_public_file
        return cls(PublicKeys.read(file, "TIDEMILL_KEYS__OPERATOR_PUBLIC_FILE") if file else None)

    def check(self, event: OperatorRequest) -> None:
        """Raises Poison unless an operator signed this very request."""
        if self._keys is not None:
            _verify(self._keys, event.data.signature, _request(event), f"{event.type} {event.id}")
