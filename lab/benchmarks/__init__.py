"""``make bench`` and ``make parked``: measure what waiting for agent tasks costs."""
