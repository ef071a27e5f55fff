"""Pure functions of ingestion: no transport, no storage."""
