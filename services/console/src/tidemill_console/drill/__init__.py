"""``tidemill drill``: would the loop recover this pipeline from a change, today, with its own settings?"""
