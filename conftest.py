"""What all tests of the workspace share."""

from hypothesis import settings

# On a busy machine any example may take long; what must not take long is bounded by pytest's timeout.
settings.register_profile("any-machine", settings(), deadline=None)
settings.load_profile("any-machine")
