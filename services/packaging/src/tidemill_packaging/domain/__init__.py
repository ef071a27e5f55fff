"""Pure functions of packaging: no transport, no storage."""
