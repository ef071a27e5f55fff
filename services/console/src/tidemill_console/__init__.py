"""Tidemill console: the tidemill command: the embedded stack, publish, watch, trace, demo."""
