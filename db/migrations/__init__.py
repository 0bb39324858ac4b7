"""Schema revisions and the code that applies them."""
