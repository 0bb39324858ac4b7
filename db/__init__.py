"""Storage: rows, sessions and migrations. Imports nothing of ours."""
