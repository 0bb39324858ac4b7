"""The inference runtime beside a bare server, a usual one and other gateways."""
