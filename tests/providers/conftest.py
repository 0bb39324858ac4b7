"""Hypothesis settings for the tests of address rules."""

from hypothesis import settings

# No deadline: how long one example takes is the machine's business, not a claim.
settings.register_profile("providers", deadline=None, max_examples=100)
settings.load_profile("providers")
