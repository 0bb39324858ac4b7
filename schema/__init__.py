"""GraphQL edge: declarations of types, inputs and the roots; each field is one call."""
