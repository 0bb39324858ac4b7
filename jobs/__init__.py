"""Background work: the queue, and one handler module per noun."""
