"""Fault injection on real processes, and one checker over what they left behind."""
