"""Pure functions of console: no transport, no storage."""
