"""Use cases: what the system does. Knows rows and loaders; knows neither GraphQL nor HTTP."""
