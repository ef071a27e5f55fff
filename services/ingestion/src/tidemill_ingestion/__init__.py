"""Tidemill ingestion: checks, cleans, profiles and splits new data into dataset versions."""
