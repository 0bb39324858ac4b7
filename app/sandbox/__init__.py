"""The offline provider: simulated models and a dataset behind real HTTP, for the demo and tests."""
