"""Pure functions of validation: no transport, no storage."""
