"""Tidemill's events, keys and documents: everything that crosses a border."""
