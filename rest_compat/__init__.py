"""REST edge: one router per resource; parse, call one use case, shape."""
