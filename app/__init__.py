"""The composition root: settings, server, worker, command line, and what they serve."""
