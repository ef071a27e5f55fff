"""Pure functions of training: no transport, no storage."""
