"""Tidemill's platform kit: delivery, storage, settings, telemetry, health."""
