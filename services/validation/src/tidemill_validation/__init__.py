"""Tidemill validation: judges packages on unseen rows and promotes the ones that prove better."""
