"""Which requests a challenger answers: the same each time and on every replica, and more of them as its share rises."""

import hashlib

_SPAN = 2**64


def threshold(share: float) -> int:
    """For ``chosen``: of all places below 2^64 the first ``share``."""
    return int(share * _SPAN)


def chosen(id_: str, salt: str, below: int) -> bool:
    """Whether the challenger answers the request ``id_``. The salt, its version, lets each trial choose anew."""
    place = hashlib.blake2b(f"{salt}/{id_}".encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(place) < below
