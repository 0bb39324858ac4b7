"""One module of input types per noun."""
