"""What a user does: one module a noun, and the root that names every mutation."""
