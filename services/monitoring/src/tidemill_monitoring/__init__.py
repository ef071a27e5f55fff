"""Tidemill monitoring: compares production with training and raises drift verdicts."""
