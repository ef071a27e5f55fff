"""Pure functions of monitoring: no transport, no storage."""
