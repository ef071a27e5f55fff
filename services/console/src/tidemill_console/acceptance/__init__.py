"""``tidemill acceptance``: a labelled stream through the whole loop, beside the policies it must not lose to."""
