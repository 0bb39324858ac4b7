"""The benchmark of GraphQL reads: the product over HTTP, as ratios to reference servers."""
