"""A pipeline's history as a page."""
