"""Names of Redis keys. The braces are Redis Cluster hash tags: what must change together shares a slot."""

from typing import Final

DEFAULT_NAMESPACE: Final = "tidemill"


def stream_key(namespace: str, type_: str, pipeline: str | None = None) -> str:
    """``{namespace}:type`` on the control plane, ``{namespace:pipeline}:type`` on the data plane."""
    return f"{{{namespace}:{pipeline}}}:{type_}" if pipeline else f"{{{namespace}}}:{type_}"


def state_key(namespace: str, owner: str, name: str, pipeline: str | None = None) -> str:
    """A service's own state beside the streams it consumes, in the same slot."""
    tag = f"{{{namespace}:{pipeline}}}" if pipeline else f"{{{namespace}}}"
    return f"{tag}:{owner}:{name}"


def dead_letter_key(namespace: str) -> str:
    """The stream of dead letters: original bytes, reason, origin."""
    return f"{{{namespace}}}:dead-letters"
