"""The outside world: model endpoints, catalogues, dataset hubs and the vault for their keys."""
