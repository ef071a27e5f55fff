"""Tidemill serving: answers prediction requests from streams, over HTTP, for files, and in a program of your own."""

from tidemill_serving.local import Answer, Predict, load

__all__ = ["Answer", "Predict", "load"]
