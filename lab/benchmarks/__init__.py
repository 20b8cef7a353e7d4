"""``make bench`` and ``make parked``: what waiting for agent tasks costs, measured."""
