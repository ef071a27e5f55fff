"""Tidemill serving: answers prediction requests from streams and over HTTP."""
