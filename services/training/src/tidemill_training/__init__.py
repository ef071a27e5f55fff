"""Tidemill training: governs retraining, searches and fits models on dataset versions."""
