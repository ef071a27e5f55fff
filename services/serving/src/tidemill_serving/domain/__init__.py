"""Pure functions of serving: no transport, no storage."""
