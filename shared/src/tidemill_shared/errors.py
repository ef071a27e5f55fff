"""Errors, named by the reaction they ask for."""


class TidemillError(Exception):
    """Base of everything Tidemill raises on purpose."""


class Retryable(TidemillError):
    """The same work may succeed later: the entry stays pending and is delivered again, a bounded number of times."""


class Poison(TidemillError):
    """The same work will never succeed: the entry goes to the dead letters now."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Overloaded(TidemillError):
    """There is no room for more just now: whoever offered it may come back after a while, with the same ids."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ConfigurationError(TidemillError):
    """A setting is missing or wrong; the message names it and says what to do."""


class StoreUnavailable(Retryable):
    """The object store did not answer, or answered with a server error."""


class ObjectMissing(Retryable):
    """A named object is not there (yet)."""


class ChecksumMismatch(Poison):
    """An object's bytes are not the ones its reference names."""

    def __init__(self, message: str) -> None:
        super().__init__("checksum", message)


class ChildDied(Retryable):
    """A child process was killed, most likely for memory, before it had a result."""


class LeaseLost(TidemillError):
    """Somebody else owns the entry now; whatever this worker made of it must be dropped."""


class StaleState(TidemillError):
    """The guarded state changed under the writer; read it again and repeat."""
