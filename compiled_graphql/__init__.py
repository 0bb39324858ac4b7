"""A GraphQL executor for Strawberry that compiles operations to Python; README.md explains it."""
