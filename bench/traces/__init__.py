"""The benchmark of traces: reading, storing and exporting them."""
